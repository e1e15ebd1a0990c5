"""What a delivery status notification tells, as values: the input of `report` and `words`. RFC 3464, RFC 3463,
RFC 6533."""

from __future__ import annotations

import re
from typing import Literal

from attrs import frozen

Action = Literal["failed", "delayed", "delivered", "relayed"]
"""RFC 3464 2.3.3. `relayed`: to a server that sends no notifications of success."""

Instead = Literal["stranger", "no_rule"]
"""Why the postmaster is told and not the sender: it might be forged; or no rule here takes mail for it."""

MAX_RECIPIENTS = 1000
"""Told of in one notification; of more, only the number."""

_STATUS = re.compile(r"(?:(?P<code>[245]\d\d)[ -]?)?(?P<enhanced>[245]\.\d{1,3}\.\d{1,3})?(?= |$)")


@frozen(kw_only=True)
class Told:
    """What became of one recipient. `reply`: what the server said, or our own words where `remote` is "".

    `original`: `type;address` of ORCPT, "" none. `remote`: the name of the server that said it; an address stands in
    brackets.
    """

    address: str
    reply: str
    action: Action = "failed"
    remote: str = ""
    original: str = ""

    @property
    def code(self) -> str:
        """The SMTP code of the reply, "" where it has none."""
        found = _STATUS.match(self.reply)
        return found["code"] or "" if found else ""

    @property
    def status(self) -> str:
        """The enhanced code of the reply, such as `5.1.1`; of the class of its SMTP code where it contradicts that, or
        made of it; "" where there is neither.
        """
        found = _STATUS.match(self.reply)
        if found is None:
            return ""
        code, enhanced = found["code"], found["enhanced"]
        if code and enhanced:
            return f"{code[0]}{enhanced[1:]}"
        return enhanced or (f"{code[0]}.0.0" if code else "")


@frozen(kw_only=True)
class Notice:
    """One notification, `id` (for Message-ID) and `to` its own.

    `hostname`: who we are. `now`, `received` (the original message), `until` (when it is given up; for delays): UTC
    epoch seconds. `sender` and `name`: the original's reverse-path and its id in our logs. `instead`: why `to` is the
    postmaster, None: it is the sender. `original`: the header of the message, with or without its
    empty line, or the whole message where `whole`; `private`: no more of it goes back than what tells which message it
    was. `envid`: the sender's name for it, "" none. `utf8`: whoever gets it takes UTF-8 (RFC 6533); else all is ASCII.
    """

    id: str
    to: str
    hostname: str
    now: float
    sender: str
    name: str
    received: float
    recipients: tuple[Told, ...]
    until: float | None = None
    instead: Instead | None = None
    original: bytes = b""
    whole: bool = False
    private: bool = False
    envid: str = ""
    utf8: bool = False

    @property
    def action(self) -> Action | Literal["mixed"]:
        """What became of all of them, if it is the same."""
        actions = {told.action for told in self.recipients}
        return actions.pop() if len(actions) == 1 else "mixed"

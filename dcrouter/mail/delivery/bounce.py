"""Notifications of what became of a message, built as messages of the house: for whom, by which rule, and with what
inside.

1. Who could relay is told itself, and a stranger for whose address SPF or DKIM stands. Another stranger's address may
   be forged: email.postmaster is told of a failure instead, and of a delay nobody: an outage would be a flood of them.
   Success is told to nobody but the sender, who has asked for it.
2. Whom a notification is for meets the rules like any recipient, as from a client that may relay; a sender whom no rule
   takes is told of by way of the postmaster.
3. Never for the null sender, and so never for a notification (RFC 5321 6.1, RFC 3834 2).

RET decides over email.bounces.return; only a failure returns the whole message (RFC 3461 4.3). Of a message with
REQUIRETLS no more goes back than what tells which it was, and the notification asks for TLS itself (RFC 8689 5).
The seam is `queue/notices`; the octets are `wire/dsn`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from ipaddress import ip_address

from attrs import evolve

from dcrouter.config.mail import Email
from dcrouter.mail.delivery.outcome import Held, Outcome
from dcrouter.mail.envelope import PLAIN, Envelope, Recipient, Terms
from dcrouter.mail.message import Message, NoticeTo
from dcrouter.mail.pipeline.rules import Rules
from dcrouter.mail.queue.notices import Ended
from dcrouter.wire.dsn.lines import header_of
from dcrouter.wire.dsn.notice import Action, Instead, Notice, Told
from dcrouter.wire.dsn.report import notification

HEADER = 64 * 1024
"""Octets of a message in which its header is looked for; of a longer one, the beginning is sent back."""

WHOLE = 1024 * 1024
"""Octets that a message may have to go back whole."""

_HOST = re.compile(r"\[(?P<v6>[0-9A-Fa-f:.%\w]+)\]|(?P<name>[^\s:\[\]()/]+)")


class Notifications:
    """What the queue calls `Notices`; nobody is told of anything without `email.bounces.dsn`. `next_id` numbers
    messages, `now` is the wall clock (UTC epoch seconds); `expand` says whom an address stands for, itself where it is
    no alias.
    """

    def __init__(
        self,
        email: Email,
        rules: Rules,
        next_id: Callable[[], int],
        now: Callable[[], float],
        expand: Callable[[str], Sequence[str]] = lambda address: (address,),
    ) -> None:
        self._hostname = email.hostname
        self._postmaster = email.postmaster
        self._wanted = email.bounces.dsn
        self._full = email.bounces.return_ == "full"
        self._max_age = email.queue.retry.max_age
        self._rules = rules
        self._next_id = next_id
        self._now = now
        self._expand = expand

    def octets(self, message: Message) -> int:
        """How much of a message `told` wants as `head`."""
        return WHOLE if self._returns_all(message.envelope.terms) else HEADER

    def _returns_all(self, terms: Terms) -> bool:
        """RET has the last word (RFC 3461 4.3), but for a message that asks for TLS all the way (RFC 8689 5)."""
        return not terms.requiretls and (terms.ret == "full" or (self._full and not terms.ret))

    def told(self, message: Message, ended: Sequence[Ended], head: bytes) -> Message | None:
        """Tells of all of these; where the sender cannot be told, the postmaster of those who failed. None: nobody can
        be told, or is to be.
        """
        envelope, terms = message.envelope, message.envelope.terms
        if not self._wanted or not envelope.sender or not ended:
            return None
        to, recipients, instead = self._whom(envelope)
        if instead is not None:
            for_postmaster = ("failed", "delayed") if _is_known(envelope) else ("failed",)
            ended = [one for one in ended if one.action in for_postmaster]
        if not recipients or not ended:
            return None
        number, now = self._next_id(), self._now()
        failed = any(one.action == "failed" for one in ended)
        names = [one.recipient.address + one.recipient.orcpt for one in ended]
        names += [envelope.sender, to, *(one.address for one in recipients)]
        ascii_only = "".join(names).isascii() and header_of(head).isascii()
        utf8 = terms.smtputf8 and not ascii_only
        octets = notification(
            Notice(
                id=f"{number:x}",
                to=to,
                hostname=self._hostname,
                now=now,
                sender=envelope.sender,
                name=message.name,
                received=message.received,
                recipients=tuple(_told(*one) for one in ended),
                until=message.since + self._max_age,
                instead=instead,
                original=head,
                whole=failed and self._returns_all(terms) and len(head) >= message.size,
                private=terms.requiretls,
                envid=terms.envid,
                utf8=utf8,
            )
        )
        notice: NoticeTo = "sender" if instead is None else "postmaster"
        own = Terms(smtputf8=utf8, requiretls=terms.requiretls, priority=terms.priority)
        return Message(
            id=number,
            envelope=Envelope(
                session=envelope.session, sender="", recipients=recipients, terms=own if own != PLAIN else PLAIN
            ),
            received=now,
            size=len(octets),
            eightbit=not octets.isascii(),
            octets=octets,
            notice=notice,
        )

    def _whom(self, envelope: Envelope) -> tuple[str, tuple[Recipient, ...], Instead | None]:
        """Who is told, by what address, and why it is not the sender; without recipients there is nobody."""
        instead: Instead = "stranger"
        if _is_known(envelope):
            sender = self._accepted(envelope.sender)
            if sender:
                return envelope.sender, sender, None
            instead = "no_rule"
        postmaster = self._postmaster or ""
        return postmaster, self._accepted(postmaster) if postmaster else (), instead

    def _accepted(self, address: str) -> tuple[Recipient, ...]:
        """The recipients that aliases and rules make of an address, without those whom these refuse."""
        decisions = map(self._rules.decide_own, self._expand(address))
        taken = [(one.address, one.rule.name) for one in decisions if one.rule is not None and one.refusal is None]
        return tuple(Recipient(number=at, address=to, rule=rule) for at, (to, rule) in enumerate(taken))


def _is_known(envelope: Envelope) -> bool:
    """Whether the sender's address is that of who sent it."""
    return envelope.may_relay or envelope.vouched


def _told(one: Recipient, outcome: Outcome, action: Action) -> Told:
    """Only what begins with an SMTP code was said by a server: a refused connection is said by nobody."""
    target = "" if isinstance(outcome, Held) else outcome.target
    told = Told(address=one.address, reply=outcome.reply, action=action, original=one.orcpt)
    if not told.code or not target:
        return told
    return evolve(told, remote="localhost" if target.startswith("/") else remote_name(target))


def remote_name(target: str) -> str:
    """The host of a label such as `mx.example.test:25`, `192.0.2.1:25` or `[2001:db8::1]:25`, as RFC 3464 2.3.5 wants
    it: a name, or `[192.0.2.1]`. "" for a path, and for nothing.
    """
    found = _HOST.match(target)
    if found is None:
        return ""
    if found["v6"]:
        return f"[IPv6:{found['v6']}]"
    try:
        return f"[{ip_address(found['name'])}]"
    except ValueError:
        return found["name"]

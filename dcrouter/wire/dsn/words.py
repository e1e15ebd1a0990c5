"""The part of a notification that a person reads: what happened, who said so, and what can be done about it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from dcrouter.wire.dsn.lines import printable
from dcrouter.wire.dsn.notice import MAX_RECIPIENTS, Notice, Told
from dcrouter.wire.moments import mail_date

MAX_REPLY = 500
"""Octets shown of what a server said; the fields for programs have more."""

_WIDTH = 72

_ADVICE = (
    (
        "4",
        "Nobody could take the message in all that time. If it still matters, send it again, or reach the recipient "
        "in another way.",
    ),
    ("5.1.10", "The domain takes no mail. Reach the recipient in another way."),
    ("5.1", "Check the address for mistakes. If it is right, the recipient has to ask their administrator."),
    ("5.2.2", "The mailbox is full. Reach the recipient in another way, or send the message again later."),
    ("5.2.3", "The message is too large for the recipient. Send it in a smaller form."),
    ("5.3.4", "The message is too large for that server. Send it in a smaller form."),
    ("5.2", "The mailbox does not take the message. Reach the recipient in another way."),
    ("5.4.6", "The two servers pass the message to each other in a circle: their administrators have to mend that."),
    ("5.6", "The content or the form of the message cannot be passed on. Send it in a plainer form."),
    (
        "5.7",
        "That server refuses the message as a matter of policy; what it said may tell why. The recipient's "
        "administrator can help.",
    ),
)
"""Beginning of a status -> what to do; the first that fits."""

_MIXED = {
    "failed": "Not delivered, and it will not be tried again.",
    "delayed": "Not yet delivered. It is still being tried: there is no need to send it again.",
    "delivered": "Delivered.",
    "relayed": "Passed on to a server that does not report success.",
}

_INSTEAD = {
    "stranger": "You get this as its postmaster: the message came from a stranger who said to be {}. Nobody has "
    "verified that, and a notice to a forged address would bother somebody else, so the sender has not been told.",
    "no_rule": "You get this as its postmaster: the message came from {}, and no rule here accepts mail for that "
    "address, so the sender has not been told.",
}


def words(notice: Notice) -> list[str]:
    """Lines, none longer than what it quotes; ASCII, but for a notice in UTF-8."""
    return [*_greeting(notice), "", *_recipients(notice), *_closing(notice)]


def span(seconds: float) -> str:
    """`4 hours`, `1 day`: the largest unit of which there are two, or one."""
    for unit, length in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        count = int(seconds // length)
        if count > 1 or (count == 1 and (unit == "minute" or seconds < 1.5 * length)):
            return f"{count} {unit}{'s' if count > 1 else ''}"
    return "a minute" if seconds >= 30 else "a moment"


def _greeting(notice: Notice) -> Iterator[str]:
    count = len(notice.recipients)
    whom = "one recipient" if count == 1 else f"{count} recipients"
    whose = "Your message"
    yield f"This is the mail server {notice.hostname}."
    yield ""
    if notice.instead:
        sender = printable(notice.sender, utf8=notice.utf8)
        yield from _filled(_INSTEAD[notice.instead].format(f"<{sender}>"))
        yield ""
        whose = "The message"
    action = notice.action
    if action == "delayed":
        until = f" It will be tried until {mail_date(int(notice.until))}." if notice.until is not None else ""
        yield from _filled(
            f"THIS IS A WARNING ONLY. {whose} has not reached {whom} for {span(notice.now - notice.received)}.{until} "
            "There is no need to send it again."
        )
    elif action == "failed":
        yield from _filled(f"{whose} could not be delivered to {whom}. It will not be tried again.")
    elif action == "delivered":
        yield from _filled(f"{whose} has been delivered to {whom}, and you asked to hear of it.")
    elif action == "relayed":
        yield from _filled(
            f"{whose} to {whom} has been passed on, and you asked to hear of it. The next server does not report "
            "success: you hear of it again only if something fails."
        )
    else:
        yield from _filled(f"This is what became of {whose.lower()} to {whom}.")


def _recipients(notice: Notice) -> Iterator[str]:
    for told in notice.recipients[:MAX_RECIPIENTS]:
        address = printable(told.address, utf8=notice.utf8)
        original = printable(told.original.partition(";")[2], utf8=notice.utf8)
        yield f"<{address}>{f' (sent to <{original}>)' if original not in ('', address) else ''}"
        if notice.action == "mixed":
            yield from _filled(_MIXED[told.action], "    ")
        if told.action == "failed" and told.status[:1] == "4":
            yield from _filled(f"Given up after {span(notice.now - notice.received)}. The last problem:", "    ")
        if told.remote:
            yield from _filled(f"The server {printable(told.remote)} said:", "    ")
        reply = printable(told.reply)
        yield from _filled(reply[:MAX_REPLY] + (" ..." if len(reply) > MAX_REPLY else ""), "    ")
        advice = _advice(notice, told)
        if advice:
            yield ""
            yield from _filled(f"What to do: {advice}", "    ")
        yield ""
    if len(notice.recipients) > MAX_RECIPIENTS:
        yield from (f"And {len(notice.recipients) - MAX_RECIPIENTS} more.", "")


def _advice(notice: Notice, told: Told) -> str:
    if told.action != "failed" or notice.instead:
        return ""
    return next((text for status, text in _ADVICE if _begins(told.status, status)), "")


def _begins(status: str, beginning: str) -> bool:
    return status == beginning or status.startswith(f"{beginning}.")


def _closing(notice: Notice) -> Iterator[str]:
    yield from _filled(
        f"For help, write to postmaster@{notice.hostname} and quote the message's number, {notice.name}."
        if not notice.instead
        else f"In the logs the message is {notice.name}."
    )
    yield "What is attached: a report for programs, and the message itself or its header."


def _filled(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(
        text, _WIDTH, initial_indent=indent, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )

"""One message for one server, and what a client says of it: MAIL and RCPT with what that server offers, or why it may
not have the message at all.

Contract: `mail` and `rcpts` give whole lines; nothing is said that the server has not announced. `refusal` is our own
answer where the announcements rule the message out; a few of them (see ADAPTABLE) a caller can do something about.
RFC 1870 (SIZE), 6152 (8BITMIME), 3030 (BINARYMIME), 6531 (SMTPUTF8), 3461 5.2.1 (DSN), 8689 4 (REQUIRETLS), 6710, 9422
(LIMITS).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import inf
from typing import NamedTuple

from dcrouter.wire.smtp.parameters import NO_WISHES, SIZE, Report, Wishes, orcpt_value
from dcrouter.wire.smtp.reply import Reply
from dcrouter.wire.smtp.xtext import to_xtext

TOO_BIG = Reply(code=552, lines=("5.3.4 The message is larger than the next hop takes",))
NO_8BIT = Reply(code=554, lines=("5.6.3 The next hop does not take 8-bit content",))
NO_BINARY = Reply(code=554, lines=("5.6.3 The next hop does not take binary content",))
NO_UTF8 = Reply(code=553, lines=("5.6.7 The next hop does not take addresses and headers in UTF-8",))
NO_REQUIRETLS = Reply(code=550, lines=("5.7.30 The next hop does not support REQUIRETLS",))
TOO_MANY = Reply(code=452, lines=("4.5.3 The next hop takes no more recipients at once",))

OURS = (TOO_BIG, NO_8BIT, NO_BINARY, NO_UTF8, NO_REQUIRETLS, TOO_MANY)
"""What nobody has said but we, because of what was announced."""

ADAPTABLE = (NO_8BIT, NO_BINARY, NO_UTF8)
"""The message could be written in another way."""


class Transaction(NamedTuple):
    """One message for one server. `sender` "" is the null reverse-path; `size` octets; `eightbit`: it has octets above
    127, `binary`: it need not consist of lines. `question`: there is no message, only the answers to its recipients are
    wanted. `smtputf8`: addresses or header are in UTF-8. `reports`: one for each recipient, or none at all.
    """

    sender: str
    recipients: Sequence[str]
    size: int
    eightbit: bool
    question: bool = False
    binary: bool = False
    smtputf8: bool = False
    wishes: Wishes = NO_WISHES
    reports: Sequence[Report] = ()


def refusal(transaction: Transaction, extensions: Mapping[str, str], *, strict: bool) -> Reply | None:
    """`strict`: it is a relay, which must keep what the message requires; a notification goes without (RFC 8689 5)."""
    limit = extensions.get("SIZE", "")
    if SIZE.fullmatch(limit) is not None and 0 < int(limit) < transaction.size:
        return TOO_BIG
    if transaction.wishes.requiretls and transaction.sender and strict and "REQUIRETLS" not in extensions:
        return NO_REQUIRETLS
    if transaction.smtputf8 and "SMTPUTF8" not in extensions:
        return NO_UTF8
    if transaction.binary and not takes_binary(extensions):
        return NO_BINARY
    if transaction.eightbit and "8BITMIME" not in extensions:
        return NO_8BIT
    return None


def limit(extensions: Mapping[str, str], name: str) -> float:
    """What LIMITS says of RCPTMAX or MAILMAX (RFC 9422 3), infinite where it says nothing that can be meant."""
    for word in extensions.get("LIMITS", "").split():
        found, _, value = word.partition("=")
        if found == name and value.isdecimal() and 0 < len(value) <= 6 and value[0] != "0":
            return int(value)
    return inf


def takes_binary(extensions: Mapping[str, str]) -> bool:
    return "BINARYMIME" in extensions and "CHUNKING" in extensions


def mail(transaction: Transaction, extensions: Mapping[str, str]) -> bytes:
    parameters = ""
    if "SIZE" in extensions and not transaction.question:
        parameters += f" SIZE={transaction.size}"
    if transaction.binary:
        parameters += " BODY=BINARYMIME"
    elif transaction.eightbit and "8BITMIME" in extensions:
        parameters += " BODY=8BITMIME"
    if transaction.smtputf8:
        parameters += " SMTPUTF8"
    if transaction.wishes is not NO_WISHES:
        parameters += _wishes(transaction.wishes, extensions)
    return f"MAIL FROM:<{transaction.sender}>{parameters}\r\n".encode("utf-8" if transaction.smtputf8 else "ascii")


def rcpts(transaction: Transaction, extensions: Mapping[str, str]) -> Iterator[bytes]:
    charset = "utf-8" if transaction.smtputf8 else "ascii"
    if not transaction.reports or "DSN" not in extensions:
        for address in transaction.recipients:
            yield f"RCPT TO:<{address}>\r\n".encode(charset)
        return
    for address, report in zip(transaction.recipients, transaction.reports, strict=True):
        parameters = f" NOTIFY={report.notify}" if report.notify else ""
        if report.orcpt:
            parameters += f" ORCPT={orcpt_value(report.orcpt, utf8=transaction.smtputf8)}"
        yield f"RCPT TO:<{address}>{parameters}\r\n".encode(charset)


def _wishes(wishes: Wishes, extensions: Mapping[str, str]) -> str:
    parameters = ""
    if "DSN" in extensions:
        if wishes.ret:
            parameters += " RET=FULL" if wishes.ret == "full" else " RET=HDRS"
        if wishes.envid:
            parameters += f" ENVID={to_xtext(wishes.envid)}"
    if wishes.requiretls and "REQUIRETLS" in extensions:
        parameters += " REQUIRETLS"
    if wishes.priority and "MT-PRIORITY" in extensions:
        parameters += f" MT-PRIORITY={wishes.priority}"
    return parameters

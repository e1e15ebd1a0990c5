"""What was found out about one message: as the entries of its field, as the reply to it, as a word to those who bounce.

RFC 8601 2.7 (names and properties of the methods), RFC 9989 5 (what a policy asks for).
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence

from attrs import frozen

from dcrouter.wire.arc import Arc
from dcrouter.wire.asking import Found
from dcrouter.wire.authresults import Entry
from dcrouter.wire.dkim.verify import Verdict
from dcrouter.wire.dmarc import Dmarc
from dcrouter.wire.iprev import Iprev
from dcrouter.wire.smtp.reply import reply
from dcrouter.wire.spf.check import Spf

_B_SHOWN = 8
"""Characters of a signature that tell it from others (RFC 6008 4)."""


@frozen(kw_only=True)
class Judgement:
    """`entries`: of the field. `refusal`: the reply to a message that is not taken. `vouched`: SPF or DKIM stands for
    the sender of the envelope, so that it may be told of failures.
    """

    entries: tuple[Entry, ...] = ()
    refusal: bytes | None = None
    vouched: bool = False


def iprev_entry(found: Iprev, address: str) -> Entry:
    return Entry("iprev", found.result, (("policy.iprev", address),), found.name)


def spf_entry(found: Spf, prop: str, value: str) -> Entry:
    """`prop`: smtp.mailfrom or smtp.helo. What went wrong in DNS is nobody's business but ours."""
    comment = found.problem if found.result == "permerror" else found.explanation
    return Entry("spf", found.result, ((prop, value),), comment)


def dkim_entries(verdicts: Sequence[Verdict]) -> list[Entry]:
    return [_dkim(verdict) for verdict in verdicts] or [Entry("dkim", "none")]


def _dkim(verdict: Verdict) -> Entry:
    signature = verdict.signature
    if signature is None:
        return Entry("dkim", verdict.result, comment=verdict.reason)
    properties = (
        ("header.d", signature.domain),
        ("header.s", signature.selector),
        ("header.a", signature.algorithm),
        ("header.b", b64encode(signature.value)[:_B_SHOWN].decode("ascii")),
    )
    return Entry("dkim", verdict.result, properties, verdict.reason)


def dmarc_entry(found: Dmarc, author: str) -> Entry:
    policy = f"p={found.policy}" if found.policy is not None else ""
    comment = found.problem if found.result == "permerror" else policy
    return Entry("dmarc", found.result, (("header.from", author),) if author else (), comment)


def arc_entry(found: Arc) -> Entry:
    properties = (("header.d", found.sealer),) if found.sealer else ()
    return Entry("arc", found.result, properties, found.reason)


def takes_no_mail(exchangers: Found | None) -> bool:
    """Whether a domain has a null MX; of one of which DNS says nothing it is not known (RFC 7505 3)."""
    return exchangers is not None and bool(exchangers.values) and not any(exchangers.values)


def no_way_back(sender: str) -> bytes:
    """What mail from a domain that takes none is answered (RFC 7505 4.2)."""
    return reply(550, f"5.7.27 {sender.rpartition('@')[2]} takes no mail, so none is taken from it (null MX)")


def refusal_of(found: Dmarc, author: str) -> bytes | None:
    """What `enforce` answers: who may not be who From says it is. X.7.26: no check has passed (RFC 7372 3.3)."""
    if found.result == "permerror":
        return reply(550, "5.7.1 From must be one field with addresses whose domains can be checked")
    if found.result == "fail" and found.policy == "reject":
        return reply(550, f"5.7.26 {author} wants mail refused that neither SPF nor DKIM vouches for (DMARC)")
    return None

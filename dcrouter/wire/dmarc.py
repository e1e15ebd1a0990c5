"""DMARC: what the domain in From wants done with mail that nobody vouches for in its name. RFC 9989.

`judge` is sans-io: it asks DNS by yielding questions, at most MAX_STEPS for each domain whose place in the tree has to
be known, once for each name. Never raises: silence of DNS is "temperror".
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

from attrs import frozen

from dcrouter.errors import Unreachable, WireError
from dcrouter.wire.asking import Asking, Found, Question, is_askable
from dcrouter.wire.dkim import tags

MAX_STEPS = 8
"""Questions of one walk up the tree (RFC 9989 4.10)."""

Policy = Literal["none", "quarantine", "reject"]
Result = Literal["none", "pass", "fail", "temperror", "permerror"]
"""`judge` never says "permerror": it is for a From without an author."""

_POLICIES: dict[str, Policy] = {"none": "none", "quarantine": "quarantine", "reject": "reject"}
_MILDER: dict[Policy, Policy] = {"reject": "quarantine", "quarantine": "none", "none": "none"}


@frozen(kw_only=True)
class Record:
    """What a domain has published. `psd`: whether it is a public suffix, None: it does not say."""

    policy: Policy = "none"
    subdomains: Policy = "none"
    absent: Policy = "none"
    strict_dkim: bool = False
    strict_spf: bool = False
    psd: bool | None = None
    testing: bool = False


class Dmarc(NamedTuple):
    """`policy`: what the domain asks for, t=y taken into account; None: there is none. `at`: who published it."""

    result: Result
    policy: Policy | None = None
    at: str = ""
    problem: str = ""


def parse(text: str) -> Record | None:
    """A TXT record as a policy; None where it is none (RFC 9989 4.7). Unknown tags, and those of old, are ignored."""
    version, _, _ = text.partition(";")
    name, equals, value = version.partition("=")
    if name.strip(" \t") != "v" or not equals or value.strip(" \t") != "DMARC1":
        return None
    found: dict[str, str] = {}
    for part in text.split(";")[: tags.MAX_TAGS]:
        try:
            for tag, said in tags.parse(part).items():
                found.setdefault(tag.lower(), said.lower())
        except WireError:
            continue  # a tag that cannot be read is no tag
    if any(found.get(tag, "none") not in _POLICIES for tag in ("p", "sp", "np")):
        return Record() if "rua" in found else None
    policy = _POLICIES[found.get("p", "none")]
    subdomains = _POLICIES[found.get("sp", policy)]
    return Record(
        policy=policy,
        subdomains=subdomains,
        absent=_POLICIES[found.get("np", subdomains)],
        strict_dkim=found.get("adkim") == "s",
        strict_spf=found.get("aspf") == "s",
        psd={"y": True, "n": False}.get(found.get("psd", "u")),
        testing=found.get("t") == "y",
    )


def judge(author: str, *, spf: str | None, dkim: Iterable[str], unsure: Iterable[str] = ()) -> Asking[Dmarc]:
    """`author`: the domain in From. `spf`, `dkim`: domains that have passed; `unsure`: those of which DNS could not
    tell whether they would have.
    """
    try:
        return (yield from _Walks().judge(_plain(author), spf, list(dkim), list(unsure)))
    except Unreachable as error:
        return Dmarc("temperror", problem=str(error))


def aligned(one: str, other: str, *, strict: bool = False) -> Asking[bool]:
    """Whether two domains are one organization's; False where DNS cannot tell."""
    try:
        return (yield from _Walks().aligned(_plain(one), _plain(other), strict))
    except Unreachable:
        return False


class _Walks:
    """The records that were found, each asked for once."""

    def __init__(self) -> None:
        self._records: dict[str, Record | None] = {}

    def judge(self, author: str, spf: str | None, dkim: list[str], unsure: list[str]) -> Asking[Dmarc]:
        if not is_askable(author) or "." not in author or author[:1] == "[":
            return Dmarc("none")  # no domain that could have a policy
        own = yield from self._record(author)
        if own is not None:
            record, at = own, author
            policy = own.policy
        else:
            at = yield from self._publisher(author)
            found = self._records.get(at)
            if found is None:
                return Dmarc("none")
            record = found
            answer: Found = yield Question(author, "A")
            policy = record.subdomains if answer.exists else record.absent
        if record.testing:
            policy = _MILDER[policy]
        for domain in dkim:
            if (yield from self.aligned(author, _plain(domain), record.strict_dkim)):
                return Dmarc("pass", policy, at)
        if spf and (yield from self.aligned(author, _plain(spf), record.strict_spf)):
            return Dmarc("pass", policy, at)
        for domain in unsure:
            if (yield from self.aligned(author, _plain(domain), False)):
                return Dmarc("temperror", policy, at, f"no word from DNS about {domain}")
        return Dmarc("fail", policy, at)

    def aligned(self, one: str, other: str, strict: bool) -> Asking[bool]:
        if one == other:
            return True
        if strict or one.rpartition(".")[2] != other.rpartition(".")[2] or not is_askable(other):
            return False
        mine = yield from self._organization(one)
        if other != mine and not other.endswith("." + mine):
            return False
        theirs = yield from self._organization(other)
        return mine == theirs

    def _organization(self, domain: str) -> Asking[str]:
        """The organizational domain (RFC 9989 4.10.2)."""
        walked = yield from self._walk(domain)
        for name, record in walked:
            if record.psd is False:
                return name
            if record.psd is True and name != domain:
                return _below(name, domain)
        return walked[-1][0] if walked else domain

    def _publisher(self, domain: str) -> Asking[str]:
        """Whose record is for a domain without one: its organizational domain's, else the public suffix's."""
        organization = yield from self._organization(domain)
        if self._records.get(organization) is not None:
            return organization
        walked = yield from self._walk(domain)
        return walked[-1][0] if walked else domain

    def _walk(self, domain: str) -> Asking[list[tuple[str, Record]]]:
        """(name, record) of those above and at the domain that have one, from below; up to one that says psd=."""
        found: list[tuple[str, Record]] = []
        for name in steps(domain):
            record = yield from self._record(name)
            if record is not None:
                found.append((name, record))
                if record.psd is not None:
                    break
        return found

    def _record(self, name: str) -> Asking[Record | None]:
        if name not in self._records:
            asked = f"_dmarc.{name}"
            answer = (yield Question(asked, "TXT")) if is_askable(asked) else Found()
            records = [record for record in map(parse, answer.values) if record is not None]
            self._records[name] = records[0] if len(records) == 1 else None
        return self._records[name]


def steps(domain: str) -> list[str]:
    """The names of a walk: of 8 labels or more, the second name is the one with 7 (RFC 9989 4.10)."""
    labels = domain.split(".")
    lengths = [len(labels), *range(min(len(labels) - 1, MAX_STEPS - 1), 0, -1)]
    return [".".join(labels[-length:]) for length in lengths]


def _below(suffix: str, domain: str) -> str:
    """The name one label below `suffix` on the way to `domain`."""
    rest = domain.removesuffix("." + suffix)
    return f"{rest.rpartition('.')[2]}.{suffix}"


def _plain(domain: str) -> str:
    return domain.lower().removesuffix(".")

"""One message of a stranger, checked while it arrives.

1. With its first recipient, DNS is asked about the client: iprev, SPF of MAIL FROM and of HELO; with SPF also whether
   the sender's domain takes mail at all (RFC 7505 4.2).
2. When its header is here, forged results go out of it, and the keys of its signatures are asked for.
3. Its body is hashed as it passes.
4. At its end `judge` waits for what is still awaited, evaluates DMARC, and says what to write and what to answer.

Nothing here fails: what cannot be found out is "temperror".
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred

from dcrouter.config.mail import Email
from dcrouter.errors import WireError
from dcrouter.mail.authentication.author import author_domains
from dcrouter.mail.authentication.lookups import Lookups
from dcrouter.mail.authentication.results import (
    Judgement,
    arc_entry,
    dkim_entries,
    dmarc_entry,
    iprev_entry,
    no_way_back,
    refusal_of,
    spf_entry,
    takes_no_mail,
)
from dcrouter.wire.arc import Chain
from dcrouter.wire.asking import Found, Question, is_askable
from dcrouter.wire.authresults import MIN_ROOM, Entry, field, without_forged
from dcrouter.wire.dkim.canonical import Field, split
from dcrouter.wire.dkim.verify import Bodies, Signatures, Verdict
from dcrouter.wire.dmarc import Dmarc, aligned, judge
from dcrouter.wire.iprev import Iprev, iprev
from dcrouter.wire.spf.check import Spf, check_host

ROOM_EACH = 256
"""Octets that are kept free for each signature's result in the file of a large message, and for the others twice."""

_LATE_SPF = Spf("temperror", problem="DNS takes too long")
_WORSE = ("fail", "permerror", "temperror", "none", "pass")
_STRICTER = ("reject", "quarantine", "none", None)


class Authentication:
    """How messages are checked. `hostname`: whose results ours are."""

    def __init__(self, email: Email, lookups: Lookups) -> None:
        self.lookups = lookups
        self.reload(email)

    def reload(self, email: Email) -> None:
        """From the next message on."""
        self.how = email.authentication_results
        self.hostname = email.hostname

    def check(self, address: str, helo: str, sender: str) -> Checks:
        """`sender` "": the null reverse-path."""
        return Checks(self, address, helo, sender)


class Checks:
    """See above; `header`, `room` and `body` are what `Intake` calls."""

    def __init__(self, by: Authentication, address: str, helo: str, sender: str) -> None:
        self._by = by
        self._how = how = by.how
        self._address = address
        self._helo = helo
        self._sender = sender
        self._fields: list[Field] = []
        self._head = b""
        self._bodies = Bodies()
        self._signatures: Signatures | None = None
        self._chain: Chain | None = None
        self._checking = how.iprev or how.spf or how.dkim or how.arc
        self._iprev: Deferred[Iprev] | None = None
        self._mail_spf: Deferred[Spf] | None = None
        self._helo_spf: Deferred[Spf] | None = None
        self._exchangers: Deferred[Found | None] | None = None
        self._keys: dict[Question, Deferred[Found | None]] = {}
        if how.iprev:
            self._iprev = by.lookups.once(("iprev", address), lambda: iprev(address), Iprev("temperror"))
        if how.spf:
            self._helo_spf = self._spf(f"postmaster@{helo}")
            if sender:
                self._mail_spf = self._spf(sender)
                domain = sender.rpartition("@")[2]
                if is_askable(domain):
                    self._exchangers = by.lookups.found(Question(domain, "MX"))

    def _spf(self, sender: str) -> Deferred[Spf]:
        address, helo, hostname = self._address, self._helo, self._by.hostname
        domain = sender.rpartition("@")[2]
        return self._by.lookups.once(
            ("spf", address, helo, sender),
            lambda: check_host(address, domain, sender, helo, hostname=hostname),
            _LATE_SPF,
        )

    # ------------------------------------------------------------------ while it arrives

    def header(self, head: bytes) -> bytes:
        """The header block as it stays."""
        kept = without_forged(head, self._by.hostname)
        self._head = kept
        lower = kept.lower()
        signed, sealed = b"dkim-signature" in lower, b"arc-" in lower
        if (self._how.dkim and signed) or (self._how.arc and sealed):
            self._fields = split(kept)
        if self._how.dkim and signed:
            self._signatures = Signatures(self._fields, self._bodies, time.time())
        if self._how.arc and sealed:
            self._chain = Chain(self._fields, self._bodies)
        for part in (self._signatures, self._chain):
            for question in part.questions if part is not None else ():
                if question not in self._keys:
                    self._keys[question] = self._by.lookups.found(question)
        return kept

    @property
    def room(self) -> int:
        """Octets that are kept free for the field in a file that is begun before the results are there; 0: for none."""
        if not self._checking:
            return 0
        count = len(self._signatures) if self._signatures is not None else 0
        return MIN_ROOM + ROOM_EACH * (2 + count) + len(self._sender)

    @property
    def awaited(self) -> bool:
        """Whether `judge` has anything to say; else `header` was all."""
        return self._checking

    def body(self, octets: bytes) -> None:
        self._bodies.add(octets)

    def field(self, entries: tuple[Entry, ...], room: int | None) -> bytes:
        """Authentication-Results with these, of `room` octets where it is given; empty where nothing is checked."""
        return field(self._by.hostname, entries, room) if self._checking else b""

    def abandon(self) -> None:
        """Nobody waits for the answers any more."""
        waiting: list[Deferred[Any] | None] = [
            self._iprev,
            self._mail_spf,
            self._helo_spf,
            self._exchangers,
            *self._keys.values(),
        ]
        for one in waiting:
            if one is not None and not one.called:
                one.addErrback(lambda _: None)
                one.cancel()

    # ------------------------------------------------------------------ at its end

    def judge(self) -> Deferred[Judgement]:
        """Once, when all is here. Never fails."""
        return Deferred.fromCoroutine(self._judge())

    async def _judge(self) -> Judgement:
        entries: list[Entry] = []
        if self._iprev is not None:
            entries.append(iprev_entry(await self._iprev, self._address))
        mail_spf = await self._mail_spf if self._mail_spf is not None else None
        helo_spf = await self._helo_spf if self._helo_spf is not None else None
        if mail_spf is not None:
            entries.append(spf_entry(mail_spf, "smtp.mailfrom", self._sender))
        if helo_spf is not None and (mail_spf is None or helo_spf.result != "none"):
            entries.append(spf_entry(helo_spf, "smtp.helo", self._helo))
        answers = {question: await answer for question, answer in self._keys.items()}
        verdicts: list[Verdict] = []
        if self._how.dkim:
            if self._signatures is not None:
                verdicts = self._signatures.results(answers)
            entries += dkim_entries(verdicts)
        spf, identity = (mail_spf, self._sender) if self._sender else (helo_spf, self._helo)
        refusal = None
        if self._how.dmarc != "ignore" and (self._how.spf or self._how.dkim):
            found, author = await self._dmarc(spf, identity.rpartition("@")[2], verdicts)
            entries.append(dmarc_entry(found, author))
            if self._how.dmarc == "enforce":
                refusal = refusal_of(found, author)
        if self._how.arc and self._chain is not None:
            entries.append(arc_entry(self._chain.result(answers)))
        if self._exchangers is not None and takes_no_mail(await self._exchangers):
            refusal = no_way_back(self._sender)
        return Judgement(
            entries=tuple(entries), refusal=refusal, vouched=bool(self._sender) and await self._vouched(spf, verdicts)
        )

    async def _dmarc(self, spf: Spf | None, identity: str, verdicts: list[Verdict]) -> tuple[Dmarc, str]:
        """(result, domain): of several domains in From the worst."""
        try:
            authors = author_domains(self._fields or split(self._head))
        except WireError as error:
            return Dmarc("permerror", problem=str(error)), ""
        passed = tuple(
            dict.fromkeys(one.signature.domain for one in verdicts if one.result == "pass" and one.signature)
        )
        unsure = tuple(one.signature.domain for one in verdicts if one.result == "temperror" and one.signature)
        if spf is not None and spf.result == "temperror":
            unsure = (*unsure, identity)
        vouching = identity if spf is not None and spf.result == "pass" else None
        judged = []
        for author in authors:
            found = await self._by.lookups.once(
                ("dmarc", author, vouching, passed, unsure),
                partial(judge, author, spf=vouching, dkim=passed, unsure=unsure),
                Dmarc("temperror", problem="DNS takes too long"),
            )
            judged.append((found, author))
        return min(judged, key=_badness)

    async def _vouched(self, spf: Spf | None, verdicts: list[Verdict]) -> bool:
        """Whether the sender's own domain has passed."""
        if spf is not None and spf.result == "pass":
            return True
        domain = self._sender.rpartition("@")[2]
        for one in {one.signature.domain for one in verdicts if one.result == "pass" and one.signature}:
            if await self._by.lookups.run(aligned(domain, one), late=False):
                return True
        return False


def _badness(judged: tuple[Dmarc, str]) -> tuple[int, int]:
    found, _ = judged
    return _WORSE.index(found.result), _STRICTER.index(found.policy)

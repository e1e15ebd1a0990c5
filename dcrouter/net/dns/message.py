"""What is asked of a DNS server and what its response means: the octets of one query out, a `Response` in.

Contract: `Query.read` gives None for octets that are no response to this query (they may be anybody's: wait on), else
Truncated, Unusable, or an Answer whose CNAMEs are followed as far as the response goes. RFC 1035 4.1, 2308 2 (NXDOMAIN
apart from NODATA), 6840 5.7 (AD), 6891 (EDNS).
"""

from __future__ import annotations

import struct
from typing import NamedTuple, TypeVar

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
from attrs import frozen
from dns.rdatatype import RdataType
from dns.rdtypes.ANY.MX import MX
from dns.rdtypes.ANY.TXT import TXT

PAYLOAD = 1232
"""Octets of a datagram that pass every path without fragments (DNS flag day 2020)."""

MAX_CHAIN = 12
"""CNAMEs followed, in one response or over several; honest chains have one or two."""

MAX_RECORDS = 200
"""Of one answer that are kept."""

WITHOUT_SOA = 30
"""Seconds for which a negative answer without SOA, against RFC 2308, is remembered."""

R = TypeVar("R", bound=dns.rdata.Rdata)

_NO_EDNS = frozenset({dns.rcode.FORMERR, dns.rcode.NOTIMP, dns.rcode.BADVERS})
_MALFORMED = (dns.exception.DNSException, ValueError, IndexError, struct.error)


class Question(NamedTuple):
    """`name`: in lower case, without final dot."""

    name: str
    type: RdataType

    def __str__(self) -> str:
        return f"{self.type.name} of {self.name}"


@frozen(kw_only=True)
class Answer:
    """`name`: the one that has the `records`, at the end of all CNAMEs. `exists` False: NXDOMAIN.

    `alias`: the response ended with a CNAME to `name`, which has to be asked for itself. `ttl`: seconds, of the
    shortest-lived record that it rests on. `secure`: the server, which is trusted to know, calls it DNSSEC-valid.
    """

    name: str
    exists: bool = True
    records: tuple[dns.rdata.Rdata, ...] = ()
    alias: bool = False
    ttl: float
    secure: bool = False

    def of(self, kind: type[R]) -> tuple[R, ...]:
        """The records, which are of this kind."""
        return tuple(record for record in self.records if isinstance(record, kind))

    @property
    def exchangers(self) -> list[tuple[int, str]]:
        """Of MX: preference and name, the most preferred first."""
        return sorted((record.preference, text_of(record.exchange)) for record in self.of(MX))

    @property
    def texts(self) -> tuple[str, ...]:
        """Of TXT: the strings of each as one, its octets as characters."""
        return tuple(b"".join(record.strings).decode("latin-1") for record in self.of(TXT))


class Truncated(NamedTuple):
    """The answer did not fit into a datagram: TCP takes it."""


class Unusable(NamedTuple):
    """This server has no answer. `plain`: it may have one for a query without EDNS. `there` False: nobody answered."""

    reason: str
    plain: bool = False
    there: bool = True


Response = Answer | Truncated | Unusable


class Query:
    """One question for one server, with an id that nobody can guess. `trusted`: its AD bit counts."""

    def __init__(self, question: Question, *, trusted: bool, edns: bool = True) -> None:
        self.question = question
        self.trusted = trusted
        self._edns = edns
        self._name = dns.name.from_text(question.name)
        self._message = dns.message.make_query(
            self._name, question.type, use_edns=0 if edns else False, payload=PAYLOAD if edns else None
        )
        if trusted:
            self._message.flags |= dns.flags.AD
        self.wire = self._message.to_wire()

    def plain(self) -> Query:
        """The same without EDNS."""
        return Query(self.question, trusted=self.trusted, edns=False)

    def read(self, wire: bytes) -> Response | None:
        """What a datagram, or a whole TCP message, says."""
        if len(wire) < 12 or wire[:2] != self.wire[:2]:
            return None
        try:
            message = dns.message.from_wire(wire, ignore_trailing=True)
        except _MALFORMED:
            return self._broken(wire)
        if not self._message.is_response(message):
            return None
        return self._meaning(message)

    def _broken(self, wire: bytes) -> Response | None:
        """Octets that do not parse to their end: cut off, or nonsense behind our question, or not for us at all."""
        try:
            head = dns.message.from_wire(wire, question_only=True)
        except _MALFORMED:
            return None
        if not self._message.is_response(head):
            return None
        return Truncated() if head.flags & dns.flags.TC else Unusable("a broken answer")

    def _meaning(self, message: dns.message.Message) -> Response:
        rcode = message.rcode()
        if message.flags & dns.flags.TC:
            return Truncated()
        if rcode not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
            return Unusable(dns.rcode.to_text(rcode), plain=self._edns and rcode in _NO_EDNS)
        name, ttl = self._name, float(1 << 31)
        for _ in range(MAX_CHAIN):
            found = message.get_rrset(message.answer, name, dns.rdataclass.IN, self.question.type)
            if found is not None:
                break
            alias = message.get_rrset(message.answer, name, dns.rdataclass.IN, dns.rdatatype.CNAME)
            if alias is None:
                break
            name, ttl = alias[0].target, min(ttl, alias.ttl)
        else:
            return Unusable("a CNAME chain without end")
        exists = rcode == dns.rcode.NOERROR
        secure = self.trusted and bool(message.flags & dns.flags.AD)
        text = text_of(name)
        if found is not None:
            if not exists:
                return Unusable("an answer that contradicts itself")
            records = tuple(found)[:MAX_RECORDS]
            return Answer(name=text, records=records, ttl=min(ttl, found.ttl), secure=secure)
        denial = _denial(message)
        if exists and denial is None:
            if name != self._name:
                return Answer(name=text, alias=True, ttl=ttl, secure=secure)
            if any(rrset.rdtype == dns.rdatatype.NS for rrset in message.authority):
                return Unusable("a referral, it does not resolve for us")
        lifetime = min(ttl, WITHOUT_SOA if denial is None else denial)
        return Answer(name=text, exists=exists, ttl=lifetime, secure=secure)


def text_of(name: dns.name.Name) -> str:
    """A name as text, in lower case and without its final dot; the root is ""."""
    return name.to_text(omit_final_dot=True).lower() if name != dns.name.root else ""


def _denial(message: dns.message.Message) -> float | None:
    """For how long the SOA of a negative answer lets it be remembered (RFC 2308 5), None: there is no SOA."""
    for rrset in message.authority:
        if rrset.rdtype == dns.rdatatype.SOA:
            return float(min(rrset.ttl, rrset[0].minimum))
    return None

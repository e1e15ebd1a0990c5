"""A DNS server on loopback, over UDP and TCP, that knows what a test tells it and misbehaves as told."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset
from twisted.internet import reactor
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IReactorUDP, ITCPTransport, IUDPTransport
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol
from twisted.trial.unittest import TestCase

from dcrouter.config.forms import HostPort
from dcrouter.config.resolver import Resolver as ResolverConfig
from tests.support.serving import listen

SILENT = "silent"
GARBAGE = "garbage"
NONSENSE = "nonsense"
WRONG_ID = "wrong id"
WRONG_QUESTION = "wrong question"
TRUNCATED = "truncated"
CUT = "cut"
REFERRAL = "referral"
Temper = str | Callable[[dns.message.Message, str], bytes | list[bytes]]
"""SILENT; GARBAGE: octets of no meaning; NONSENSE: our question, then octets of no meaning; WRONG_ID and
WRONG_QUESTION: forged; TRUNCATED: over UDP, whole over TCP; CUT: truncated over UDP, closed over TCP; REFERRAL; the
name of a response code; or a callable that takes the query and `udp` or `tcp` and gives wires."""


class Nameserver:
    """`questions`: [(name, type, `udp` or `tcp`)] in order. `secure`: the AD bit of answers. `delay`: seconds before
    each. `soa`: (TTL, minimum) of negative answers, None: without one. `sources`: ports that datagrams came from.

    `chases` False: a CNAME is answered without what it leads to.
    """

    def __init__(self, case: TestCase, address: str = "127.0.0.1") -> None:
        self.questions: list[tuple[str, str, str]] = []
        self.queries: list[dns.message.Message] = []
        self.sources: set[int] = set()
        self.secure = False
        self.chases = True
        self.delay = 0.0
        self.soa: tuple[int, int] | None = (300, 60)
        self._records: dict[tuple[str, str], dns.rrset.RRset] = {}
        self._tempers: dict[tuple[str, str | None], Temper] = {}
        self._later: list[Any] = []
        self._streams: set[Any] = set()
        factory = Factory.forProtocol(lambda: _Stream(self))
        factory.noisy = False
        for _ in range(50):
            self._datagrams = IReactorUDP(reactor).listenUDP(
                0, _Datagrams(self), interface=address, maxPacketSize=65535
            )
            place = self._datagrams.getHost()
            assert isinstance(place, IPv4Address | IPv6Address)
            self.port = place.port
            try:
                self._listener = listen(factory, address, self.port)
            except CannotListenError:
                self._datagrams.stopListening()
            else:
                break
        self.place = HostPort(address, self.port)
        self._open = True
        case.addCleanup(self.close)

    def config(self, *others: Nameserver, **more: Any) -> ResolverConfig:
        """A `resolver` of the configuration that asks this server, then the others."""
        return ResolverConfig(servers=(self.place, *(other.place for other in others)), **more)

    def add(self, name: str, kind: str, *values: str, ttl: int = 300) -> None:
        """Records of one name and type, as in a zone file; instead of those that were there."""
        owner = dns.name.from_text(name)
        self._records[name.lower().rstrip("."), kind] = dns.rrset.from_text(owner, ttl, "IN", kind, *values)

    def mail(self, domain: str, *hosts: str, address: str = "127.0.0.1") -> None:
        """A domain with these mail exchangers, all at one address; preferences 10, 20 ..."""
        self.add(domain, "MX", *(f"{(at + 1) * 10} {host}." for at, host in enumerate(hosts)))
        for host in hosts:
            self.add(host, "A", address)

    def remove(self, name: str, kind: str) -> None:
        del self._records[name.lower().rstrip("."), kind]

    def behave(self, temper: Temper | None, name: str = "", kind: str | None = None) -> None:
        """How it answers from now on: everything, or one name, or one type of it; None: well again."""
        at = (name.lower().rstrip("."), kind)
        if temper is None:
            self._tempers.pop(at, None)
        else:
            self._tempers[at] = temper

    def asked(self, name: str, kind: str) -> int:
        """How often this question came."""
        return sum(1 for question in self.questions if question[:2] == (name, kind))

    def close(self) -> Any:
        if not self._open:
            return None
        self._open = False
        for call in self._later:
            if call.active():
                call.cancel()
        for stream in list(self._streams):
            stream.transport.abortConnection()
        self._datagrams.stopListening()
        return self._listener.stopListening()

    # ------------------------------------------------------------------

    def answer(self, wire: bytes, by: str, send: Callable[[bytes], Any], cut: Callable[[], Any]) -> None:
        query = dns.message.from_wire(wire)
        question = query.question[0]
        name, kind = question.name.to_text(omit_final_dot=True).lower(), dns.rdatatype.to_text(question.rdtype)
        self.questions.append((name, kind, by))
        self.queries.append(query)
        temper = self._tempers.get((name, kind)) or self._tempers.get((name, None)) or self._tempers.get(("", None))
        if temper == CUT and by == "tcp":
            cut()
            return
        wires = self._wires(query, name, kind, temper, by)

        def now() -> None:
            for one in wires:
                send(one)

        if self.delay:
            self._later.append(reactor.callLater(self.delay, now))
        else:
            now()

    def _wires(self, query: dns.message.Message, name: str, kind: str, temper: Temper | None, by: str) -> list[bytes]:
        if callable(temper):
            said = temper(query, by)
            return said if isinstance(said, list) else [said]
        if temper == SILENT:
            return []
        if temper == GARBAGE:
            return [random.Random(1).randbytes(100), b"", b"\0"]
        response = self.response(query, name, kind)
        if temper == NONSENSE:
            response.answer = []
            return [response.to_wire()[:6] + b"\0\7\0\0\0\0" + response.to_wire()[12:] + b"\xff" * 20]
        if temper == WRONG_ID:
            response.id = (response.id + 1) % 65536
        elif temper == WRONG_QUESTION:
            other = dns.message.make_query("elsewhere.test", kind, id=query.id)
            response = self.response(other, name, kind)
        elif temper in (TRUNCATED, CUT) and by == "udp":
            response.flags |= dns.flags.TC
            response.answer = []
        elif temper == REFERRAL:
            response = dns.message.make_response(query)
            response.authority.append(dns.rrset.from_text("test.", 60, "IN", "NS", "ns.test."))
        elif temper is not None and temper not in (TRUNCATED, CUT):
            response = dns.message.make_response(query)
            response.set_rcode(dns.rcode.from_text(temper))
        if by == "tcp":
            return [response.to_wire(max_size=65535)]
        try:
            return [response.to_wire(max_size=query.payload if query.edns >= 0 else 512)]
        except dns.exception.TooBig:
            response.flags |= dns.flags.TC
            response.answer = []
            return [response.to_wire(max_size=65535)]

    def response(self, query: dns.message.Message, name: str, kind: str) -> dns.message.Message:
        """The true one."""
        response = dns.message.make_response(query, recursion_available=True)
        if self.secure:
            response.flags |= dns.flags.AD
        for _ in range(20):
            found = self._records.get((name, kind))
            if found is not None:
                response.answer.append(found)
                return response
            alias = self._records.get((name, "CNAME"))
            if alias is None:
                break
            if alias in response.answer:
                return response
            response.answer.append(alias)
            name = alias[0].target.to_text(omit_final_dot=True).lower()
            if not self.chases:
                return response
        if not any(known == name or known.endswith("." + name) for known, _ in self._records):
            response.set_rcode(dns.rcode.NXDOMAIN)
        if self.soa is not None:
            ttl, minimum = self.soa
            text = f"ns.test. root.test. 1 3600 600 86400 {minimum}"
            response.authority.append(dns.rrset.from_text("test.", ttl, "IN", "SOA", text))
        return response


class _Datagrams(DatagramProtocol):
    transport: IUDPTransport
    noisy = False

    def __init__(self, server: Nameserver) -> None:
        self._server = server

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        self._server.sources.add(addr[1])
        self._server.answer(datagram, "udp", lambda wire: self.transport.write(wire, addr), lambda: None)


class _Stream(Protocol):
    transport: ITCPTransport

    def __init__(self, server: Nameserver) -> None:
        self._server = server
        self._received = b""

    def connectionMade(self) -> None:
        self._server._streams.add(self)

    def connectionLost(self, reason: Any = None) -> None:
        self._server._streams.discard(self)

    def dataReceived(self, data: bytes) -> None:
        self._received += data
        length = int.from_bytes(self._received[:2], "big")
        if len(self._received) >= 2 + length:
            wire, self._received = self._received[2 : 2 + length], b""
            self._server.answer(
                wire,
                "tcp",
                lambda one: self.transport.write(len(one).to_bytes(2, "big") + one),
                self.transport.loseConnection,
            )

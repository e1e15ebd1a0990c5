"""dns-01 by dynamic updates (RFC 2136) that a key signs (TSIG, RFC 8945), over TCP, at the primary server of the zone.

1. CNAMEs of `_acme-challenge.<name>` are followed as far as the server knows them, so that a zone of its own may hold
   the proofs.
2. The zone is the one whose SOA the server shows for the name, or else for the names above it.
3. The TXT record is added beside others: a name and its wildcard are proved at the same place. It counts as presented
   when the server itself answers with it.
4. Only that record is removed.
"""

from __future__ import annotations

from base64 import b64decode
from typing import Any

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.tsig
import dns.update
from dns.rdatatype import RdataType
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.error import ConnectError, DNSLookupError
from twisted.internet.protocol import connectionDone
from twisted.internet.task import deferLater
from twisted.protocols.basic import Int16StringReceiver
from twisted.python.failure import Failure

from dcrouter.errors import AcmeError
from dcrouter.net.waits import cancellable, within
from dcrouter.tls.acme.challenges import dns_value
from dcrouter.wire.hostport import hostport

ANSWER = 15.0
"""Seconds for one exchange, the connection included."""
VISIBLE = 60.0
"""Seconds in which the server has to answer with what it was told."""
TTL = 60
_PAUSE, _PAUSE_AT_MOST = 0.1, 2.0
_MOST_ALIASES = 8


class UpdateSolver:
    """dns-01 at the server `host`:`port`. `secret`: of the key, base64. ValueError where the key cannot be one."""

    def __init__(
        self, reactor: Any, host: str, port: int, *, key_name: str, secret: str, algorithm: str = "hmac-sha256"
    ) -> None:
        try:
            self._key = dns.tsig.Key(key_name, b64decode(secret, validate=True), algorithm)
        except (ValueError, dns.exception.DNSException) as error:
            raise ValueError("the secret of a TSIG key is base64, and its name a DNS name") from error
        self._reactor = reactor
        self._host, self._port = host, port
        self._where = f"the DNS server {hostport(host, port)}"
        self._places: dict[tuple[str, str], tuple[dns.name.Name, dns.name.Name]] = {}

    async def present(self, name: str, token: str, key_authorization: str) -> None:
        value = dns_value(key_authorization)
        owner = await self._owner(dns.name.from_text(f"_acme-challenge.{name}"))
        zone = await self._zone(owner)
        self._places[name, token] = owner, zone
        update = dns.update.UpdateMessage(zone)
        update.add(owner, TTL, "TXT", value)
        await self._update(update, owner)
        await self._visible(owner, value)

    async def cleanup(self, name: str, token: str, key_authorization: str) -> None:
        place = self._places.pop((name, token), None)
        if place is not None:
            owner, zone = place
            update = dns.update.UpdateMessage(zone)
            update.delete(owner, "TXT", dns_value(key_authorization))
            await self._update(update, owner)

    async def _owner(self, name: dns.name.Name) -> dns.name.Name:
        for _ in range(_MOST_ALIASES):
            response = await self._query(name, dns.rdatatype.CNAME)
            alias = response.get_rrset(response.answer, name, dns.rdataclass.IN, dns.rdatatype.CNAME)
            if alias is None:
                return name
            name = alias[0].target
        raise AcmeError(f"{self._where}: the CNAMEs of {_text(name)} do not end")

    async def _zone(self, owner: dns.name.Name) -> dns.name.Name:
        name = owner
        said = ""
        while name != dns.name.root:
            response = await self._query(name, dns.rdatatype.SOA)
            for rrset in (*response.answer, *response.authority):
                if rrset.rdtype == dns.rdatatype.SOA and owner.is_subdomain(rrset.name):
                    return rrset.name
            if response.rcode() not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
                said = f" ({dns.rcode.to_text(response.rcode())})"
            name = name.parent()
        raise AcmeError(f"{self._where} has no zone that {_text(owner)} is in{said}")

    async def _visible(self, owner: dns.name.Name, value: str) -> None:
        end = self._reactor.seconds() + VISIBLE
        pause = _PAUSE
        while True:
            response = await self._query(owner, dns.rdatatype.TXT)
            found = response.get_rrset(response.answer, owner, dns.rdataclass.IN, dns.rdatatype.TXT)
            if any(b"".join(record.strings) == value.encode("ascii") for record in found or ()):
                return
            if self._reactor.seconds() + pause > end:
                raise AcmeError(f"{self._where} took the record of {_text(owner)} but does not answer with it")
            await deferLater(self._reactor, pause)
            pause = min(pause * 2, _PAUSE_AT_MOST)

    async def _query(self, name: dns.name.Name, kind: RdataType) -> dns.message.Message:
        query = dns.message.make_query(name, kind)
        query.flags &= ~dns.flags.RD  # what other servers say is of no use here
        return await self._exchange(query)

    async def _update(self, update: dns.update.UpdateMessage, owner: dns.name.Name) -> None:
        rcode = (await self._exchange(update)).rcode()
        if rcode != dns.rcode.NOERROR:
            raise AcmeError(f"{self._where} refuses the update of {_text(owner)}: {dns.rcode.to_text(rcode)}")

    async def _exchange(self, message: dns.message.Message) -> dns.message.Message:
        message.use_tsig(self._key)
        try:
            wire = await within(self._reactor, ANSWER, self._octets(message.to_wire()))
            response = dns.message.from_wire(wire, keyring=self._key, request_mac=message.mac, ignore_trailing=True)
        except TimeoutError as error:
            raise AcmeError(f"{self._where}: no answer within {ANSWER:g} s") from error
        except (ConnectError, DNSLookupError) as error:
            raise AcmeError(f"{self._where}: no connection: {error}") from error
        except dns.tsig.PeerError as error:
            raise AcmeError(f"{self._where} does not take the key {self._key.name}: {error}") from error
        except (dns.exception.DNSException, ValueError) as error:
            raise AcmeError(f"{self._where}: an answer that cannot be used: {error or type(error).__name__}") from error
        if not message.is_response(response) or not response.had_tsig:
            raise AcmeError(f"{self._where}: an answer that is not signed, or to something else")
        return response

    async def _octets(self, wire: bytes) -> bytes:
        """Of the answer to `wire`."""
        endpoint = HostnameEndpoint(self._reactor, self._host, self._port, timeout=ANSWER)
        conversation = await cancellable(connectProtocol(endpoint, _Conversation()))
        try:
            conversation.sendString(wire)
            answer: bytes = await conversation.answer
            return answer
        finally:
            conversation.transport.abortConnection()


class _Conversation(Int16StringReceiver):
    """`answer`: the octets of one message; it fails with AcmeError where the connection ends before."""

    def __init__(self) -> None:
        self.answer: Deferred[bytes] = Deferred()

    def stringReceived(self, string: bytes) -> None:
        if not self.answer.called:
            self.answer.callback(string)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self.answer.called:
            self.answer.errback(AcmeError("the DNS server ended the connection before its answer"))


def _text(name: dns.name.Name) -> str:
    return name.to_text(omit_final_dot=True)

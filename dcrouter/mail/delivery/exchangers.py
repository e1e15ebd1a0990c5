"""Which hosts take the mail of a domain, in the order to try them: MX, or the domain itself where it has none.

1. An address literal is its own host.
2. MX by preference, shuffled among equals; a CNAME of the domain is followed. `MX 0 .` means: no mail, ever.
3. No MX: the addresses of the domain. No such domain: failed at once. No word from DNS: deferred.
4. From the first of our own hosts on, nobody is tried; if that leaves nobody, the mail runs in a circle.
5. The addresses of those that are left, as many as one attempt may need.

RFC 5321 5.1, RFC 7505 (null MX), RFC 5891 (IDN).
"""

from __future__ import annotations

import random
import socket
from collections.abc import Callable, Iterable
from ipaddress import IPv6Address, ip_address

import idna
from attrs import frozen
from twisted.internet.defer import Deferred as TwistedDeferred
from twisted.internet.defer import DeferredList
from twisted.python.failure import Failure

from dcrouter.config.mail import Email
from dcrouter.config.match import Address
from dcrouter.errors import NoAddress, NoSuchName, Unreachable
from dcrouter.mail.delivery.nexthop import WELCOME, Security
from dcrouter.mail.delivery.outcome import Deferred, Failed
from dcrouter.net.resolver import MxAnswer, Resolved, Resolver

SMTP_PORT = 25
"""On which every exchanger listens (RFC 5321 4.5.4.2)."""

MAX_HOSTS = 10
MAX_ADDRESSES = 20
"""Tried for one message in one attempt, so that a domain cannot send us around the world."""


@frozen(kw_only=True)
class Exchanger:
    """`host`: the name to expect in its certificate; of an address literal, the address. `addresses`: as text, at least
    one, in the order to try. `secure`: DNSSEC vouches for its being the domain's exchanger, and for its addresses;
    `alias`: where its CNAMEs lead, "" where it has none. `security`: what a session with it must have.
    """

    host: str
    addresses: tuple[str, ...]
    preference: int = 0
    secure: bool = False
    alias: str = ""
    security: Security = WELCOME


Exchange = tuple[Exchanger, ...] | Deferred | Failed
"""Whom to try, in order and never empty; or what becomes of the mail instead."""


class Exchangers:
    """`hostname`: email.hostname. `ours`: whether an address, on the port of exchangers, is this host's own server."""

    def __init__(
        self,
        resolver: Resolver,
        hostname: str,
        ours: Callable[[str], bool],
        shuffle: Callable[[list[tuple[int, str]]], None] = random.shuffle,
    ) -> None:
        self._resolver = resolver
        self._hostname = hostname.lower()
        self._ours = ours
        self._shuffle = shuffle

    def of(self, domain: str) -> TwistedDeferred[Exchange]:
        """For the domain of a recipient, as in its address. Never fails; may be cancelled."""
        return TwistedDeferred.fromCoroutine(self._of(domain))

    async def _of(self, domain: str) -> Exchange:
        if domain[:1] == "[":
            return self._literal(domain)
        try:
            name = ascii_domain(domain)
        except ValueError:
            return Failed(f"550 5.1.2 {domain!r} is not a domain")
        try:
            found = await self._resolver.mx(name)
        except NoSuchName:
            return Failed(f"550 5.1.2 There is no domain {name}")
        except Unreachable as error:
            return Deferred(f"4.4.3 {error}")
        if found.hosts and all(not host for _, host in found.hosts):
            return Failed(f"556 5.1.10 {name} takes no mail (null MX)")
        return await self._reachable(name, found)

    def _literal(self, domain: str) -> Exchange:
        text = domain.strip("[]")
        try:
            address = IPv6Address(text[5:]) if text[:5].lower() == "ipv6:" else ip_address(text)
        except ValueError:
            return Failed(f"550 5.1.2 {domain} is not an address")
        if self._ours(str(address)):
            return _circle(domain)
        return (Exchanger(host=str(address), addresses=(str(address),)),)

    async def _reachable(self, name: str, found: MxAnswer) -> Exchange:
        """The exchangers that have addresses, up to the first that is us."""
        hosts = [(preference, host) for preference, host in found.hosts if host] or [(0, found.domain)]
        self._shuffle(hosts)
        hosts.sort(key=lambda one: one[0])
        own = min((preference for preference, host in hosts if host == self._hostname), default=None)
        hosts = hosts[:MAX_HOSTS]
        asked = DeferredList([self._resolver.resolve(f"{host}.") for _, host in hosts], consumeErrors=True)
        answers: list[Resolved | Failure] = [result for _, result in await asked]
        for (preference, _), resolved in zip(hosts, answers, strict=True):
            if not isinstance(resolved, Failure) and any(self._ours(address) for address in resolved.addresses):
                own = preference if own is None else min(own, preference)
        exchangers: list[Exchanger] = []
        reasons: list[str] = []
        room = MAX_ADDRESSES
        for (preference, host), resolved in zip(hosts, answers, strict=True):
            if own is not None and preference >= own:
                break
            if isinstance(resolved, Failure):
                if resolved.check(NoSuchName, NoAddress) is None:
                    reasons.append(resolved.getErrorMessage())
            elif room:
                tried = resolved.addresses[:room]
                room -= len(tried)
                secure = found.secure and resolved.secure
                alias = "" if resolved.name == host else resolved.name
                exchangers.append(
                    Exchanger(host=host, addresses=tried, preference=preference, secure=secure, alias=alias)
                )
        if exchangers:
            return tuple(exchangers)
        if reasons:
            return Deferred(f"4.4.3 {'; '.join(reasons)}")
        if own is not None:
            return _circle(name)
        if found.hosts:
            return Failed(f"550 5.4.4 No exchanger of {name} has an address")
        return Failed(f"550 5.1.2 {name} has neither exchangers nor an address")


class OwnAddresses:
    """Whether an address is one on which this host takes mail on `port`, or an edge that is a service of its own does,
    for loops that no name shows.

    `listen`: the global addresses, for ports that have none of their own.
    """

    def __init__(self, email: Email, listen: Iterable[Address], port: int = SMTP_PORT) -> None:
        bound = [address for one in email.doors if one.port == port for address in one.listen or listen]
        if any(one.port == port for one in email.doors):
            bound += [edge.network_address for edge in email.edges if edge.num_addresses == 1]
        self._any = {address.version for address in bound if address.is_unspecified}
        self._named = {str(address) for address in bound}

    def __call__(self, address: str) -> bool:
        if address in self._named:
            return True
        version = ip_address(address).version
        return version in self._any and is_local(address)


def is_local(address: str) -> bool:
    """Whether what is sent to an address stays on this host. Nothing is sent: the kernel is asked for the route."""
    parsed = ip_address(address)
    if parsed.is_loopback or parsed.is_unspecified:
        return True
    family = socket.AF_INET6 if parsed.version == 6 else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((address, SMTP_PORT))
            return bool(ip_address(probe.getsockname()[0].partition("%")[0]) == parsed)
    except OSError:
        return False


def ascii_domain(domain: str) -> str:
    """A domain as DNS knows it, IDNs as A-labels; ValueError where it cannot be one."""
    if domain.isascii():
        return domain.lower()
    try:
        return idna.encode(domain, uts46=True).decode("ascii").lower()
    except UnicodeError as error:  # idna.IDNAError is one
        raise ValueError(str(error)) from error


def _circle(name: str) -> Failed:
    return Failed(f"554 5.4.6 Mail for {name} would come back to this host")

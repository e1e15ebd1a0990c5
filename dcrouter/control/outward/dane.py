"""The TLSA records of the mail server: which there should be, which there are, and so when the next key may be used.

Where `certificates.dane.rollover` is set, DNS is asked every now and then, as everybody else asks it, for the records
of every mail port; tls/keys.py makes of it what it must. Without an answer nothing changes. RFC 6698, 7671, 7672.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

from dns.rdtypes.ANY.TLSA import TLSA
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger

from dcrouter.config.admin import Config
from dcrouter.config.halves import certifies_mail
from dcrouter.control.outward.chosen import Chosen
from dcrouter.control.regular import Regularly
from dcrouter.errors import DcrouterError, TlsError, Unreachable
from dcrouter.net.resolver import TlsaAnswer
from dcrouter.tls.credential import Credential
from dcrouter.tls.keys import KeyRing, digest

LOOK = 600.0
"""Seconds between two looks at DNS."""
KIND = (3, 1, 1)
"""DANE-EE, of the public key, as SHA-256: the one kind that needs no change at a renewal (RFC 7671 section 5.1)."""


class Source(Protocol):
    """Who is asked (net/resolver)."""

    def tlsa(self, name: str) -> Deferred[TlsaAnswer]: ...


class Dane:
    """Of one parent. `seconds`: UTC epoch."""

    log = Logger()

    def __init__(self, clock: Any, source: Source, seconds: Callable[[], float] = time.time) -> None:
        self._source = source
        self._seconds = seconds
        self._config: Config | None = None
        self._ring: KeyRing | None = None
        self._shown: tuple[Credential, ...] = ()
        self._asking: Deferred[None] | None = None
        self._problem = ""
        self._look = Regularly("TLSA records", self._ask, clock)

    def use(self, config: Config, ring: KeyRing, chosen: Chosen) -> None:
        """From now on this is what the mail server shows."""
        self._config, self._ring, self._shown = config, ring, chosen.of_mail()
        try:
            for host in self._rolling():
                ring.used(host, self._shown[0])
            self._note("")
        except TlsError as error:
            self._note(str(error))

    def start(self) -> None:
        """Begin to look."""
        self._look.start(LOOK, now=True)

    def stop(self) -> None:
        """Look no more."""
        self._look.stop()
        if self._asking is not None:
            self._asking.cancel()

    def records(self) -> list[dict[str, Any]]:
        """JSON-ready, each with `name`, `type`, `value`, and `use`: `now` or `next`. Of the next key also `published`:
        since when it is (UTC epoch seconds, None: not everywhere), and `ripe`: when it may be used.
        """
        if self._config is None or self._config.email is None or self._ring is None or not certifies_mail(self._config):
            return []
        host = self._config.email.hostname.lower()
        records = []
        ports = [f"_{port}._tcp.{host}." for port in self._ports()]
        now = dict.fromkeys(digest(credential.private_key()) for credential in self._shown)
        for name in ports:
            records += [_record(name, key) | {"use": "now"} for key in now]
        if host in self._rolling():
            sight = self._ring.next_of(host)
            more = {"use": "next", "published": sight.seen or None, "ripe": sight.ripe_at()}
            records += [_record(name, sight.key) | more for name in ports if sight.key not in now]
        return records

    def _rolling(self) -> frozenset[str]:
        """The hosts whose keys are ours to roll over: an operator's certificate has a key of his own."""
        assert self._ring is not None
        own = [one for one in self._shown if one.source != "file"]
        return self._ring.hosts if own and own == list(self._shown) else frozenset()

    def _ports(self) -> tuple[int, ...]:
        assert self._config is not None and self._config.email is not None
        return tuple(dict.fromkeys(port.port for port in self._config.email.doors))

    def _ask(self) -> None:
        if self._ring is not None and self._rolling() and self._asking is None:
            asking = self._asking = Deferred.fromCoroutine(self._ask_all(self._ring))
            asking.addErrback(self._broken).addBoth(self._asked)

    def _asked(self, result: object) -> None:
        self._asking = None

    def _broken(self, failure: Any) -> None:
        if failure.check(CancelledError) is None:
            self.log.failure("TLSA records cannot be looked up", failure)

    async def _ask_all(self, ring: KeyRing) -> None:
        for host in sorted(ring.hosts):
            found: dict[int, tuple[set[str], float]] = {}
            try:
                for port in self._ports():
                    answer = await self._source.tlsa(f"_{port}._tcp.{host}")
                    # One of another kind is none of the next key; it counts all the same as one that is there.
                    found[port] = ({_key_of(one) for one in answer.records}, answer.ttl)
                ring.looked(host, found)
            except Unreachable as error:
                self.log.info("TLSA records of {host} cannot be looked up: {reason}", host=host, reason=str(error))
            except DcrouterError as error:
                self._note(str(error))

    def _note(self, problem: str) -> None:
        if problem and problem != self._problem:
            self.log.error("DANE: {problem}", problem=problem)
        self._problem = problem


def _key_of(record: TLSA) -> str:
    """The digest that it has of a key, "" where it is of another kind."""
    kind = (record.usage, record.selector, record.mtype)
    return record.cert.hex() if kind == KIND else ""


def _record(name: str, key: str) -> dict[str, Any]:
    return {"name": name, "type": "TLSA", "value": f"{' '.join(map(str, KIND))} {key}"}

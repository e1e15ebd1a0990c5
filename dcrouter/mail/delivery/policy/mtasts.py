"""MTA-STS as a sender sees it: the policy of a domain, found, fetched, and kept for as long as it holds. RFC 8461.

1. What is kept holds until its `max_age` has passed, whatever DNS says meanwhile: an attacker who takes the record away
   gains nothing. A file for each domain keeps it over a restart.
2. Another id at `_mta-sts` has the policy fetched anew, and so has its age of a day; the old one holds until then.
3. A domain whose policy cannot be fetched has none (section 3.3), and is not asked again for a while.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from attrs import evolve, frozen
from dns.rdatatype import RdataType
from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.logger import Logger

from dcrouter.durable import make_directory, write_whole
from dcrouter.errors import TlsError, Unreachable, WireError
from dcrouter.net.resolver import Resolver
from dcrouter.wire.hostname import host_name
from dcrouter.wire.mtasts import LARGEST, Policy, parse, policy_id
from dcrouter.wire.tlsrpt import FailureType

DIRECTORY = "mta-sts"
MEDIA_TYPE = "text/plain"
WITHIN = 30.0
"""Seconds that a message waits for the first policy of its domain."""
FRESH = 86_400.0
"""Seconds after which a policy that still holds is fetched again."""
NOT_AGAIN = 300.0
"""Seconds for which a fetch that has failed is not made again."""
AT_ONCE = 20
"""Fetches that are under way together."""
MAX_KNOWN = 10_000
"""Domains with a policy that are remembered, in memory and on disk."""


class Fetch(Protocol):
    """Who fetches a policy (`Https.get`)."""

    def __call__(self, url: str, *, within: float, most: int, media_type: str) -> Deferred[bytes]: ...


Told = Callable[[str, FailureType, str], None]
"""Hears of a domain whose policy cannot be had: the domain, how, and why in words."""


@frozen(kw_only=True)
class Known:
    """A policy as it was fetched: `id` of its record, `fetched` and `until` as UTC epoch seconds."""

    policy: Policy
    id: str
    fetched: float

    @property
    def until(self) -> float:
        return self.fetched + self.policy.max_age


class MtaSts:
    """`directory`: where policies are kept. `now`: UTC epoch seconds. `in_thread` runs what waits for the disk."""

    _log = Logger()

    def __init__(
        self,
        directory: Path,
        resolver: Resolver,
        fetch: Fetch,
        now: Callable[[], float],
        in_thread: Callable[..., Deferred[Any]],
        told: Told,
    ) -> None:
        self._directory = directory / DIRECTORY
        self._resolver = resolver
        self._fetch = fetch
        self._now = now
        self._in_thread = in_thread
        self._told = told
        self._known: OrderedDict[str, Known | None] = OrderedDict()
        self._files: set[str] | None = None
        self._failed: OrderedDict[str, float] = OrderedDict()
        self._under_way: dict[str, list[Deferred[None]]] = {}
        self._gate = DeferredSemaphore(AT_ONCE)

    async def of(self, domain: str) -> Policy | None:
        """The policy that holds for a domain, in A-labels; None where there is none, or `mode` is none."""
        known = self._holding(await self._remembered(domain))
        announced = await self._announced(domain)
        if announced is not None and domain not in self._resting():
            if known is None or known.id != announced:
                await self._fetched(domain, announced)
                known = self._holding(self._known.get(domain))
            elif self._now() - known.fetched >= FRESH and domain not in self._under_way:
                self._fetched(domain, announced)  # and nobody waits for it
        if known is None or known.policy.mode == "none":
            return None
        return known.policy

    def held(self, domain: str) -> Policy | None:
        """The policy that is in memory and holds."""
        known = self._holding(self._known.get(domain))
        return None if known is None else known.policy

    def _holding(self, known: Known | None) -> Known | None:
        return known if known is not None and known.until > self._now() else None

    async def _announced(self, domain: str) -> str | None:
        """The id at `_mta-sts`, None where there is none, or nobody knows (section 3.1)."""
        try:
            answer = await self._resolver.records(f"_mta-sts.{domain}", RdataType.TXT)
        except Unreachable:
            return None
        return policy_id(answer.texts)

    # ------------------------------------------------------------------ fetching

    def _resting(self) -> OrderedDict[str, float]:
        """Domains whose policies are not asked for now."""
        now = self._now()
        while self._failed and (
            len(self._failed) > MAX_KNOWN or not now < next(iter(self._failed.values())) <= now + NOT_AGAIN
        ):
            self._failed.popitem(last=False)
        return self._failed

    def _fetched(self, domain: str, announced: str) -> Deferred[None]:
        """Fires when a fetch of the domain's policy has ended, well or not; who asks meanwhile shares it."""
        waiter: Deferred[None] = Deferred(lambda waiter: self._under_way.get(domain, []).remove(waiter))
        if domain in self._under_way:
            self._under_way[domain].append(waiter)
            return waiter
        self._under_way[domain] = [waiter]

        def ended(_: None) -> None:
            for one in self._under_way.pop(domain):
                one.callback(None)

        self._gate.run(Deferred.fromCoroutine, self._take(domain, announced)).addCallback(ended)
        return waiter

    async def _take(self, domain: str, announced: str) -> None:
        url = f"https://mta-sts.{domain}/.well-known/mta-sts.txt"
        kind: FailureType
        try:
            octets = await self._fetch(url, within=WITHIN, most=LARGEST, media_type=MEDIA_TYPE)
            known = Known(policy=parse(octets), id=announced, fetched=self._now())
        except TlsError as error:
            kind, reason = "sts-webpki-invalid", str(error)
        except WireError as error:
            kind, reason = "sts-policy-invalid", str(error)
        except Unreachable as error:
            kind, reason = "sts-policy-fetch-error", str(error)
        except Exception:
            self._log.failure("the MTA-STS policy of {domain} cannot be fetched", domain=domain)
            kind, reason = "sts-policy-fetch-error", "a defect"
        else:
            self._keep(domain, known)
            return
        self._failed[domain] = self._now() + NOT_AGAIN
        self._failed.move_to_end(domain)
        self._log.info("no MTA-STS policy of {domain}: {reason}", domain=domain, reason=reason)
        self._told(domain, kind, reason)

    # ------------------------------------------------------------------ keeping

    def _keep(self, domain: str, known: Known) -> None:
        self._remember(domain, known)
        assert self._files is not None
        if len(self._files) >= MAX_KNOWN and domain not in self._files:
            self._in_thread(self._drop, self._files.pop())
        self._files.add(domain)
        self._in_thread(self._write, domain, known).addErrback(self._unwritten, domain)

    def _remember(self, domain: str, known: Known | None) -> None:
        self._known[domain] = known
        self._known.move_to_end(domain)
        if len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)

    async def _remembered(self, domain: str) -> Known | None:
        """From memory, or from the file of an earlier run."""
        if domain in self._known:
            known = self._known[domain]
            if known is not None and known.fetched > self._now() + FRESH:  # by a clock that was ahead
                self._keep(domain, evolve(known, fetched=self._now()))
            return self._known[domain]
        if self._files is None:
            self._files = self._kept()
        if domain not in self._files:
            return None
        known = await self._in_thread(self._read, domain)
        if domain not in self._known:
            self._remember(domain, known)
        return await self._remembered(domain)

    def _kept(self) -> set[str]:
        """The domains of files that are there."""
        try:
            return {name.removesuffix(".json") for name in os.listdir(self._directory) if not name.startswith(".")}
        except OSError:
            return set()

    def _path(self, domain: str) -> Path:
        return self._directory / f"{host_name(domain.encode('ascii'))}.json"

    def _read(self, domain: str) -> Known | None:
        """In a thread. None, and no file any more, where there is nothing of use."""
        try:
            kept = json.loads(self._path(domain).read_text("utf-8"))
            policy = parse("\n".join(kept["policy"]).encode("utf-8"))
            known = Known(policy=policy, id=str(kept["id"]), fetched=float(kept["fetched"]))
        except (OSError, ValueError, KeyError, TypeError, WireError):
            known = None
        if self._holding(known) is None:
            self._drop(domain)
        return known

    def _drop(self, domain: str) -> None:
        with contextlib.suppress(OSError):
            self._path(domain).unlink()

    def _write(self, domain: str, known: Known) -> None:
        make_directory(self._directory)
        kept = {"id": known.id, "fetched": known.fetched, "policy": known.policy.lines}
        write_whole(self._path(domain), json.dumps(kept).encode("utf-8"), 0o600)

    def _unwritten(self, failure: Any, domain: str) -> None:
        reason = failure.getErrorMessage()
        self._log.warn("the MTA-STS policy of {domain} is not kept: {reason}", domain=domain, reason=reason)

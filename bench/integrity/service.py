"""What each kind of exchange runs through: the far ends, the whole service between, the clients."""

from __future__ import annotations

import asyncio
import ssl
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from attrs import frozen

from bench.backend import Certificate, make_certificate
from bench.hello import SNI
from bench.integrity import requests, streams
from bench.integrity.far import Listeners
from bench.integrity.hops import Book, Hop, Inbox
from bench.integrity.senders import Senders
from bench.integrity.tally import PATIENCE, Tally
from bench.reliability.far import FarEnd
from tests.support.router import Router

_EDGE = """
http: {keep_alive: 2m}
defaults: {timeouts: {half_closed: 2m}}
routes:
  - {name: plain, match: {ports: $plain}, action: {type: forward, target: {host: 127.0.0.1, port: $far}}}
  - {name: unix, match: {ports: $unix}, action: {type: forward, target: {unix: $path}}}
  - name: web
    match: {ports: $web, domains: [web.example.test]}
    action: {type: forward, target: {host: 127.0.0.1, port: $far}}
  - name: socket
    match: {ports: $web, domains: [socket.example.test]}
    action: {type: forward, target: {unix: $path}}
  - name: passed
    match: {ports: $tls, domains: [passed.example.test]}
    tls: {mode: passthrough}
    action: {type: forward, target: {host: 127.0.0.1, port: $secure}}
  - name: ended
    match: {ports: $tls, domains: [ended.example.test]}
    tls: {mode: terminate, certificate: internal}
    protocol: $protocol
    action: {type: forward, target: {host: 127.0.0.1, port: $far}}
  - name: again
    match: {ports: $tls, domains: [again.example.test]}
    tls: {mode: terminate-and-reencrypt, certificate: internal, upstream: {server_name: $name, ca: $ca}}
    protocol: $protocol
    action: {type: forward, target: {host: 127.0.0.1, port: $secure}}
"""
_MAIL = """
email:
  hostname: mail.example.test
  postmaster: postmaster@load.test
  ports: [{port: $mail, kind: smtp}]
  trusted: [127.0.0.1/32]
  rules:
    - name: hop
      match: {recipients: ["*@hop.test"]}
      action: {type: forward, targets: [{host: 127.0.0.1, port: $hop}]}
    - {name: local, match: {recipients: ["*@local.test"]}, action: {type: deliver, lmtp: "127.0.0.1:$lmtp"}}
    - name: senders
      match: {recipients: ["*@load.test"]}
      action: {type: forward, targets: [{host: 127.0.0.1, port: $home}]}
  queue: {min_free_disk: 1MB, retry: {base: 200ms, max: 1s}}
"""


@frozen(kw_only=True)
class Options:
    """`at_once`: clients. `reloads`: the configuration is read again each second."""

    seed: int
    seconds: float
    at_once: int
    reloads: bool


async def exchange_streams(options: Options, tally: Tally) -> None:
    """Raw bytes."""
    far = streams.FarEnd(options.seed, tally)
    async with _edge(far.serve, protocol="tcp") as (router, certificate):
        passed = ssl.create_default_context(cafile=str(certificate.chain))
        passed.check_hostname = False
        ended = _trusting(router)
        contexts = {"ended": ended, "again": ended, "passed": passed}
        await _run(options, router, streams.Streams(options.seed, tally, far, router.ports, contexts).run)


async def exchange_requests(options: Options, tally: Tally) -> None:
    """HTTP."""
    far = requests.FarEnd(options.seed, tally)
    async with _edge(far.serve, protocol="http") as (router, _):
        await _run(options, router, requests.Requests(options.seed, tally, router.ports, _trusting(router)).run)


async def exchange_mail(options: Options, tally: Tally) -> None:
    """Messages to hops that misbehave until no more are sent; then all that waits must leave."""
    book = Book(tally)
    with tempfile.TemporaryDirectory(prefix="integrity-") as base:
        certificate = make_certificate(Path(base))
        hop, local = (Hop(options.seed, book, certificate.serving(), lmtp=lmtp) for lmtp in (False, True))
        home = FarEnd(Inbox(book), lambda token: None, certificate)
        for end in (hop, local, home):
            await end.start()
        async with _service(_MAIL, ("mail",), hop=hop.port, lmtp=local.port, home=home.port) as router:
            senders = Senders(options.seed, book, router.ports["mail"], _trusting(router))
            await _run(options, router, senders.run)
            hop.unkind = local.unkind = False
            if await _left(router):
                book.close()
            else:
                tally.wrong.append(f"after {PATIENCE:g} s the queue still has {router.queue()}")
        for end in (hop, local):
            end.close()
        await home.close()


EXCHANGES = {"streams": exchange_streams, "requests": exchange_requests, "mail": exchange_mail}


@asynccontextmanager
async def _edge(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]], protocol: str
) -> AsyncIterator[tuple[Router, Certificate]]:
    with tempfile.TemporaryDirectory(prefix="integrity-") as name:
        base = Path(name)
        certificate = make_certificate(base)
        far = Listeners(serve, certificate.serving(), base / "far.sock")
        await far.start()
        ports = ("plain", "unix", "web", "tls")
        ends = {"far": far.plain, "secure": far.secure, "path": base / "far.sock"}
        async with _service(_EDGE, ports, protocol=protocol, name=SNI, ca=certificate.chain, **ends) as router:
            yield router, certificate
        await far.close()


@asynccontextmanager
async def _service(text: str, ports: tuple[str, ...], **values: Any) -> AsyncIterator[Router]:
    router = await asyncio.to_thread(lambda: Router(text, ports=ports, expected=[""], **values))
    try:
        yield router
    finally:
        await asyncio.to_thread(router.close)


async def _run(options: Options, router: Router, run: Callable[[float], Awaitable[None]]) -> None:
    """So many clients at once, until the time is over."""
    deadline = asyncio.get_running_loop().time() + options.seconds
    reloading = asyncio.create_task(_reload(router) if options.reloads else asyncio.sleep(0))
    await asyncio.gather(*(run(deadline) for _ in range(options.at_once)))
    reloading.cancel()


async def _reload(router: Router) -> None:
    while True:
        await asyncio.sleep(1)
        await asyncio.to_thread(router.reload)


async def _left(router: Router) -> bool:
    """Whether all mail leaves in time; what has failed stays."""
    deadline = asyncio.get_running_loop().time() + PATIENCE
    while asyncio.get_running_loop().time() < deadline:
        if all(one["state"] == "failed" for one in await asyncio.to_thread(router.queue)):
            return True
        await asyncio.sleep(0.2)
    return False


def _trusting(router: Router) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(router.state / "internal-ca" / "ca.pem"))

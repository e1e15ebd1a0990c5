"""GET of a service's URL, or POST of a form, by Twisted's own client, which most services never need."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from dcrouter.errors import Unreachable


class Fetcher:
    """`connect`: seconds for a connection; for the rest of an answer it is the caller who waits, and cancels."""

    def __init__(self, reactor: Any, connect: float) -> None:
        self._reactor = reactor
        self._connect = connect
        self._agent: Any = None

    def get(self, url: str, accept: str = "*/*", largest: int = 0) -> Deferred[tuple[int, bytes]]:
        """The status, and of a 200 the body, of at most `largest` octets; any other body, or where that is 0, is left
        alone. Unreachable where the body is larger, or broken off; Twisted's errors where there is no answer.
        """
        return self._ask(b"GET", url, {"accept": accept}, None, largest)

    def post(self, url: str, form: bytes, headers: Mapping[str, str], largest: int) -> Deferred[tuple[int, bytes]]:
        """The same for a form, as application/x-www-form-urlencoded has it."""
        from twisted.web.client import FileBodyProducer

        said = {"accept": "application/json", "content-type": "application/x-www-form-urlencoded", **headers}
        return self._ask(b"POST", url, said, FileBodyProducer(BytesIO(form)), largest)

    def _ask(
        self, method: bytes, url: str, said: Mapping[str, str], body: Any, largest: int
    ) -> Deferred[tuple[int, bytes]]:
        from twisted.web.client import Agent
        from twisted.web.http_headers import Headers

        if self._agent is None:
            self._agent = Agent(self._reactor, connectTimeout=self._connect)
        headers = Headers({"user-agent": ["dcrouter"], **{name: [value] for name, value in said.items()}})
        try:
            asked: Deferred[Any] = self._agent.request(method, url.encode("ascii"), headers, body)
        except Exception:
            return fail()
        return asked.addCallback(_fetched, largest)


def _fetched(response: Any, largest: int) -> Deferred[tuple[int, bytes]]:
    status = int(response.code)
    return body_of(response, largest if status == 200 else 0).addCallback(lambda body: (status, body))


def body_of(response: Any, largest: int) -> Deferred[bytes]:
    """The body of an answer of Twisted's client, of at most so many octets; where that is 0 it is left alone, and b"".
    Unreachable where it is larger, or broken off. Cancelled, it ends the connection.
    """
    collector = _Collector(largest)
    if not largest:
        collector.done.addErrback(lambda _: None)
        response.deliverBody(collector)
        collector.drop()
        return succeed(b"")
    response.deliverBody(collector)
    return collector.done


class _Collector(Protocol):
    """`done`: all of a body, or Unreachable."""

    transport: Any

    def __init__(self, largest: int) -> None:
        self._data = bytearray()
        self._largest = largest
        self.done: Deferred[bytes] = Deferred(lambda _: self.drop())

    def drop(self) -> None:
        """The rest is of no interest."""
        if self.transport is not None:
            # Not loseConnection, which waits for the peer's close_notify however long that takes.
            self.transport.stopProducing()

    def dataReceived(self, data: bytes) -> None:
        self._data += data
        if len(self._data) > self._largest:
            self.drop()
            if not self.done.called:
                self.done.errback(Unreachable(f"the answer is larger than {self._largest} octets"))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        from twisted.web.client import ResponseDone

        if self.done.called:
            return
        if reason.check(ResponseDone):
            self.done.callback(bytes(self._data))
        else:
            self.done.errback(Unreachable("the answer is broken off"))

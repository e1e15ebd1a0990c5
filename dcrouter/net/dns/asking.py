"""One question at all servers, within one deadline.

1. The first server is asked. Where it refuses, or has no answer (SERVFAIL and the like), the next one is asked at once.
2. A server that is silent has its share of the time, then the next is asked, and after the last the first again; all
   are listened to until the end, for a slow answer is an answer.
3. Who was silent while another answered, or to the end, is asked last for a while.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from dcrouter.errors import Unreachable
from dcrouter.net.dns.exchange import Exchange
from dcrouter.net.dns.message import Answer, Question, Unusable
from dcrouter.net.dns.servers import Server

TRIES = 2
"""Datagrams to each server, where time is shared out; three where there is only one."""


class Asking:
    """`answer` fires with the Answer, or fails with Unreachable; cancelling it closes everything."""

    def __init__(self, question: Question, servers: list[Server], reactor: Any, timeout: float) -> None:
        self.answer: Deferred[Answer] = Deferred(lambda _: self._close())
        self.sent = 0
        self._question = question
        self._reactor = reactor
        self._timeout = timeout
        self._interval = timeout / max(TRIES * len(servers), 3)
        self._turns = list(servers)
        self._exchanges: dict[Server, Exchange] = {}
        self._reasons: list[str] = []
        self._turn: Any = None
        self._end: Any = None

    def start(self) -> None:
        """Asks; `answer` may fire before this returns."""
        self._end = self._reactor.callLater(self._timeout, self._late)
        self._next()

    def _next(self) -> None:
        """The next server in turn that may still have an answer."""
        if self._turn is not None and self._turn.active():
            self._turn.cancel()
        self._turn = None
        while self._turns:
            server = self._turns.pop(0)
            exchange = self._exchanges.get(server)
            if exchange is None:
                exchange = self._exchanges[server] = Exchange(self._question, server, self._reactor, self._heard)
            problem = exchange.send()
            if problem is None:
                self.sent += 1
                self._turns.append(server)
                self._turn = self._reactor.callLater(self._interval, self._next)
                return
            self._without(exchange, problem)
            server.failed(self._reactor.seconds())
        self._fail()

    def _heard(self, exchange: Exchange, response: Answer | Unusable) -> None:
        server = exchange.server
        if isinstance(response, Answer):
            self._blame()
            server.answered()
            self._close()
            self.answer.callback(response)
            return
        asked_last = bool(self._turns) and self._turns[-1] is server
        self._without(exchange, response.reason)
        if not response.there:
            server.failed(self._reactor.seconds())
        if not self._turns:
            self._fail()
        elif asked_last:
            self._next()

    def _without(self, exchange: Exchange, reason: str) -> None:
        """This server is out, for this question."""
        self._reasons.append(f"{exchange.server}: {reason}")
        if exchange.server in self._turns:
            self._turns.remove(exchange.server)
        exchange.close()
        del self._exchanges[exchange.server]

    def _late(self) -> None:
        silent = [f"{server}: no answer" for server in self._exchanges]
        self._blame()
        self._reasons += silent
        self._fail()

    def _blame(self) -> None:
        now = self._reactor.seconds()
        for server, exchange in self._exchanges.items():
            if now - exchange.began >= self._interval * 0.99:
                server.failed(now)

    def _fail(self) -> None:
        self._close()
        self.answer.errback(Unreachable(f"DNS has no answer for the {self._question} ({'; '.join(self._reasons)})"))

    def _close(self) -> None:
        for timer in (self._turn, self._end):
            if timer is not None and timer.active():
                timer.cancel()
        for exchange in self._exchanges.values():
            exchange.close()
        self._exchanges.clear()
        self._turns.clear()

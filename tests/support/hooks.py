"""Code as an operator puts it beside routes.yaml, for tests: `HOOKS` is the text of hooks.py."""

from __future__ import annotations

HOOKS = '''
"""Handlers and a select of this host."""

import os
import time

from twisted.internet.protocol import Factory, Protocol

VERSION = 1


class Echo(Protocol):
    """Greets with what it knows, then gives back what comes; `bye` ends it, `fail` is a defect."""

    facts = None

    def connectionMade(self):
        facts = self.facts
        known = (facts.peer[0], facts.sni, facts.alpn, facts.tls_version, facts.client_certificate, VERSION)
        self.transport.write(" ".join(map(str, known)).encode() + b"\\n")

    def dataReceived(self, data):
        if data == b"fail\\n":
            raise RuntimeError("a defect")
        if data == b"exit\\n":
            os._exit(3)
        if data == b"hang\\n":
            time.sleep(600)
        self.transport.write(data)
        if data == b"bye\\n":
            self.transport.loseConnection()


class EchoFactory(Factory):
    protocol = Echo


class Counter(Protocol):
    def connectionMade(self):
        self.factory.count += 1
        self.transport.write(b"%d\\n" % self.factory.count)


class CounterFactory(Factory):
    """Tells each client which one it is: one factory serves all of them."""

    protocol = Counter
    count = 0


counters = CounterFactory()


def by_name(facts):
    """The ports of targets are in the names: p8081.example.test; failing ones have names too."""
    if facts.request is not None:
        port = facts.request.header("X-Port")
        return None if port is None else ("127.0.0.1", int(port))
    if facts.sni == "fail.example.test":
        raise LookupError("nobody knows " + facts.sni)
    if facts.sni == "odd.example.test":
        return "elsewhere.example.test:80"
    if facts.sni is None or not facts.sni.startswith("p"):
        return None
    return f"127.0.0.1:{facts.sni[1:].partition('.')[0]}"


def slow(facts):
    time.sleep(0.2)


async def later(facts):
    """Takes its time, but not too much."""
    from twisted.internet import reactor
    from twisted.internet.task import deferLater

    await deferLater(reactor, 0.005)
    return by_name(facts)
'''

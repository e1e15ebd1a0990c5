from __future__ import annotations

import subprocess
import sys

from twisted.trial.unittest import SynchronousTestCase

_PROGRAM = """
import sys
from twisted.logger import globalLogBeginner, formatEvent
globalLogBeginner.beginLoggingTo([lambda event: print("log:", formatEvent(event))], redirectStandardIO=False)
from dcrouter.net.reactor import install
install()
from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol

class Broken(Protocol):
    def dataReceived(self, data):
        raise RuntimeError("in dataReceived")

    def connectionLost(self, reason):
        reactor.callLater(0, reactor.stop)
        raise RuntimeError("in connectionLost")

class Client(Protocol):
    def connectionMade(self):
        self.transport.write(b"x")

def listening(port):
    TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port).connect(Factory.forProtocol(Client))

TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(Factory.forProtocol(Broken)).addCallback(listening)
reactor.callLater(20, reactor.stop)
reactor.run()
print(type(reactor).__module__)
"""

_IDLE = """
from dcrouter.net.reactor import Reactor
reactor = Reactor()
said = []
rounds = 0

class Busy:
    def fileno(self): return 1
    def logPrefix(self): return ""
    def connectionLost(self, reason): pass
    def doWrite(self):
        global rounds
        rounds += 1
        if rounds == 3:
            said.append("the work ends")
            reactor.removeWriter(self)

reactor.addWriter(Busy())
reactor.when_idle(lambda: said.append("quiet"), 60.0)
while "quiet" not in said:
    reactor.doIteration(10)
reactor.addWriter(Busy())
rounds = 10
reactor.when_idle(lambda: said.append("late"), 0.0)
reactor.doIteration(10)
print(said)
"""

_FAILING = """
from twisted.logger import globalLogBeginner
globalLogBeginner.beginLoggingTo([lambda event: print("log:", event["log_failure"])], redirectStandardIO=False)
from dcrouter.net.reactor import Reactor
reactor = Reactor()
said = []
reactor.when_idle(lambda: 1 / 0, 60.0)
reactor.when_idle(lambda: said.append("the next"), 60.0)
reactor.doIteration(0)
print(said)
"""

_LED = """
import socket, threading, time
from dcrouter.net.reactor import install
install()
from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from dcrouter.net.engine import IN, OUT, WAIT, Engine
from dcrouter.net.stream import Plain

engine = Engine(reactor)
listener = socket.create_server(("127.0.0.1", 0))
listener.setblocking(False)

async def echo(task, sock):
    stream = Plain(task, sock.detach(), IN | OUT)
    stream.watch()
    while (data := stream.recv()) != b"":
        if data:
            stream.send(data)
        await WAIT
    stream.close()

def accept():
    sock, _ = listener.accept()
    sock.setblocking(False)
    engine.spawn(lambda task: echo(task, sock))

said = []

def say(what, then=None):
    said.append(what)
    if then is not None:
        then()

class Client(Protocol):
    def connectionMade(self):
        self.transport.write(b"x")
    def dataReceived(self, data):
        say("echo")
        self.transport.loseConnection()
    def connectionLost(self, reason):
        say("lost", lambda: reactor.callInThread(lambda: reactor.callFromThread(say, "thread", timers)))

def timers():
    reactor.callLater(0, say, "at once", lambda: reactor.callLater(0.05, say, "soon", reactor.stop))

engine.start()
engine.listen(listener.fileno(), accept)
reactor.callWhenRunning(
    lambda: TCP4ClientEndpoint(reactor, "127.0.0.1", listener.getsockname()[1]).connect(Factory.forProtocol(Client))
)
reactor.callLater(20, say, "too late", reactor.stop)
reactor.run()
engine.stop()
print(said)
"""


class ReactorTests(SynchronousTestCase):
    def test_errors_of_a_protocol_are_logged_and_the_loop_goes_on(self) -> None:
        """What a protocol raises ends its connection; the process serves the others, and stops when it is told to."""
        done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, timeout=240, check=True)
        self.assertIn("in dataReceived", done.stdout)
        self.assertIn("dcrouter.net.reactor\n", done.stdout)
        self.assertEqual(done.stderr, "")

    def test_a_quiet_moment_comes_when_nothing_else_is_ready_or_its_time_is_over(self) -> None:
        """What waits for one is called once: after the work that is there, or in between when it has waited enough."""
        done = subprocess.run([sys.executable, "-c", _IDLE], stdout=subprocess.PIPE, text=True, timeout=240, check=True)
        self.assertEqual(done.stdout.split("\n")[-2], "['the work ends', 'quiet', 'late']")

    def test_one_that_fails_in_a_quiet_moment_keeps_it_from_nobody(self) -> None:
        """It is logged, and the others have their turn."""
        done = subprocess.run(
            [sys.executable, "-c", _FAILING], stdout=subprocess.PIPE, text=True, timeout=240, check=True
        )
        self.assertIn("ZeroDivisionError", done.stdout)
        self.assertEqual(done.stdout.split("\n")[-2], "['the next']")

    def test_one_that_follows_another_loop_does_its_own_work_too(self) -> None:
        """While the engine waits in its place: connections, threads that call, and timers set by all of them."""
        done = subprocess.run([sys.executable, "-c", _LED], stdout=subprocess.PIPE, text=True, timeout=240, check=True)
        self.assertEqual(done.stdout.split("\n")[-2], "['echo', 'lost', 'thread', 'at once', 'soon']")

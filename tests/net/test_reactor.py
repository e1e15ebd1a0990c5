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


class ReactorTests(SynchronousTestCase):
    def test_errors_of_a_protocol_are_logged_and_the_loop_goes_on(self) -> None:
        """What a protocol raises ends its connection; the process serves the others, and stops when it is told to."""
        done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, timeout=40, check=True)
        self.assertIn("in dataReceived", done.stdout)
        self.assertIn("dcrouter.net.reactor\n", done.stdout)
        self.assertEqual(done.stderr, "")

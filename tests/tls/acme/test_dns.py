"""dns-01: updates of a real DNS server, and programs of the operator."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import dns.message
import dns.query
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import TestCase

from dcrouter.errors import AcmeError
from dcrouter.tls.acme.authority import Authority
from dcrouter.tls.acme.challenges import dns_value
from dcrouter.tls.acme.command import CommandSolver
from dcrouter.tls.acme.rfc2136 import UpdateSolver
from tests.support.facts import until
from tests.support.hole import Hole
from tests.support.named import KEY, Named
from tests.support.pebble import ChallengeDns, Pebble
from tests.support.ports import Reserved
from tests.support.serving import listen
from tests.tls.acme.test_pebble import key, names_of

ALIAS = """_acme-challenge.www CNAME www.proofs.test.
_acme-challenge.mail CNAME mail.proofs
_acme-challenge.loop CNAME _acme-challenge.loop
"""


class UpdateTests(TestCase):
    named: Named

    @classmethod
    def setUpClass(cls) -> None:
        cls.named = Named("example.test", "deep.sub.example.test", "proofs.test", more={"example.test": ALIAS})
        cls.addClassCleanup(cls.named.close)

    def solver(self, **settings: Any) -> UpdateSolver:
        settings = {"key_name": KEY[0], "secret": KEY[1], **settings}
        return UpdateSolver(reactor, "127.0.0.1", settings.pop("port", self.named.port), **settings)

    async def test_certificates_by_updates(self) -> None:
        """A name together with its wildcard, whose proofs stand at one place, and an alias; nothing is left behind."""
        pebble = Pebble(self.named.dns)
        self.addCleanup(pebble.close)
        authority = Authority(reactor, pebble.url, key(), trust=pebble.trust)
        self.addCleanup(authority.close)
        names = ("*.example.test", "example.test", "mail.example.test")
        chain = await authority.issue(names, key(), {"dns-01": self.solver()})
        self.assertEqual(sorted(names_of(chain)), list(names))
        self.assertEqual(self.named.txt("_acme-challenge.example.test"), set())

    async def test_several_values_side_by_side(self) -> None:
        """One is removed, the other stays."""
        solver = self.solver()
        await solver.present("a.example.test", "t1", "t1.k")
        await solver.present("a.example.test", "t2", "t2.k")
        self.assertEqual(self.named.txt("_acme-challenge.a.example.test"), {dns_value("t1.k"), dns_value("t2.k")})
        await solver.cleanup("a.example.test", "t1", "t1.k")
        self.assertEqual(self.named.txt("_acme-challenge.a.example.test"), {dns_value("t2.k")})
        await solver.cleanup("a.example.test", "t2", "t2.k")
        self.assertEqual(self.named.txt("_acme-challenge.a.example.test"), set())

    async def test_the_closest_zone(self) -> None:
        """Of two that could be meant, the one that the server answers from."""
        solver = self.solver()
        await solver.present("x.deep.sub.example.test", "t", "t.k")
        self.assertEqual(self.named.txt("_acme-challenge.x.deep.sub.example.test"), {dns_value("t.k")})
        await solver.cleanup("x.deep.sub.example.test", "t", "t.k")

    async def test_an_alias_is_followed(self) -> None:
        """Into another zone of the server."""
        solver = self.solver()
        await solver.present("www.example.test", "t", "t.k")
        self.assertEqual(self.named.txt("www.proofs.test"), {dns_value("t.k")})
        await solver.cleanup("www.example.test", "t", "t.k")
        self.assertEqual(self.named.txt("www.proofs.test"), set())

    async def test_what_goes_wrong_is_told(self) -> None:
        """A zone that is not there, aliases without end, keys that the server does not know, a server that is down."""
        down = Reserved()
        self.addCleanup(down.close)
        for solver, name, reason in (
            (self.solver(), "a.elsewhere.test", "has no zone that _acme-challenge.a.elsewhere.test is in .REFUSED"),
            (self.solver(), "loop.example.test", "do not end"),
            (self.solver(key_name="others."), "a.example.test", "does not take the key others"),
            (self.solver(secret="AAAA"), "a.example.test", "does not take the key updates"),
            (self.solver(port=down.port), "a.example.test", f"127.0.0.1:{down.port}: no connection"),
        ):
            with self.assertRaisesRegex(AcmeError, reason):
                await solver.present(name, "t", "t.k")
            await solver.cleanup(name, "t", "t.k")
        with self.assertRaises(ValueError):
            self.solver(secret="no base64!")

    async def test_cancelled(self) -> None:
        """At every step: on the way to the server, and while it keeps silent."""
        asked: list[bytes] = []

        class Silent(Protocol):
            def dataReceived(self, data: bytes) -> None:
                asked.append(data)

        silent = listen(Factory.forProtocol(Silent))
        self.addCleanup(silent.stopListening)
        for port, fact in ((Hole(self).port, lambda: True), (silent.getHost().port, lambda: asked)):
            running = Deferred.fromCoroutine(self.solver(port=port).present("a.example.test", "t", "t.k"))
            await until(fact)
            running.cancel()
            await self.assertFailure(running, CancelledError)

    async def test_refused_update(self) -> None:
        """A key that may not write TXT records."""
        named = Named("example.test", types="A")
        self.addCleanup(named.close)
        with self.assertRaisesRegex(AcmeError, "refuses the update of _acme-challenge.a.example.test: REFUSED"):
            await self.solver(port=named.port).present("a.example.test", "t", "t.k")


SCRIPT = """\
import json, os, sys, urllib.request
action, name, value = sys.argv[2:]
assert (action, name, value) == tuple(os.environ["DCROUTER_" + one] for one in ("ACTION", "NAME", "VALUE"))
body = {"host": name, "value": value} if action == "present" else {"host": name}
path = "set-txt" if action == "present" else "clear-txt"
urllib.request.urlopen(sys.argv[1] + "/" + path, json.dumps(body).encode(), timeout=240)
"""


class CommandTests(TestCase):
    def script(self, text: str, *arguments: str, **settings: Any) -> CommandSolver:
        path = Path(self.mktemp())
        path.write_text(text)
        return CommandSolver(reactor, [sys.executable, str(path), *arguments], **settings)

    async def test_a_certificate_by_a_program(self) -> None:
        """A wildcard, by a program that tells the DNS server."""
        server = ChallengeDns()
        self.addCleanup(server.close)
        pebble = Pebble(server.dns)
        self.addCleanup(pebble.close)
        authority = Authority(reactor, pebble.url, key(), trust=pebble.trust)
        self.addCleanup(authority.close)
        solver = self.script(SCRIPT, server.management)
        chain = await authority.issue(("*.example.com",), key(), {"dns-01": solver})
        self.assertEqual(names_of(chain), ["*.example.com"])
        host, _, port = server.dns.partition(":")
        response = dns.query.udp(dns.message.make_query("_acme-challenge.example.com", "TXT"), host, 60, int(port))
        self.assertEqual(response.answer, [])

    async def test_its_failure_is_told_with_its_words(self) -> None:
        """Exit code and standard error; a signal; a program that is not there."""
        for solver, reason in (
            (
                self.script("import sys; sys.exit('no token given')"),
                "^present: .* with status 1: no token given$",
            ),
            (self.script("import os; os.kill(os.getpid(), 9)"), "^present: .* was ended by SIGKILL$"),
            (CommandSolver(reactor, ["/nowhere/at-all"]), "^present: /nowhere/at-all: there is no such program"),
        ):
            with self.assertRaisesRegex(AcmeError, reason):
                await solver.present("a.example.com", "t", "t.k")

    async def test_one_that_takes_too_long_is_ended(self) -> None:
        """And what it said until then is told."""
        solver = self.script(
            "import sys, time; print('waiting', file=sys.stderr, flush=True); time.sleep(99)", seconds=5
        )
        with self.assertRaisesRegex(AcmeError, "^present: .* has not ended within 5 s: waiting$"):
            await solver.present("a.example.com", "t", "t.k")

    async def test_cancelled(self) -> None:
        """The program is gone when the one who waited for it hears of it."""
        mark = Path(self.mktemp())
        solver = self.script(
            "import os, sys, time; open(sys.argv[1] + '.new', 'w').write(str(os.getpid()))\n"
            "os.rename(sys.argv[1] + '.new', sys.argv[1]); time.sleep(99)",
            str(mark),
        )
        running = Deferred.fromCoroutine(solver.present("a.example.com", "t", "t.k"))
        await until(mark.exists)
        running.cancel()
        await self.assertFailure(running, CancelledError)
        self.assertFalse(Path(f"/proc/{mark.read_text()}").exists())

    async def test_children_of_its_own_hold_nothing_up(self) -> None:
        """A daemon that it leaves behind keeps its pipes."""
        await self.script("import subprocess; subprocess.Popen(['sleep', '5'])").present("a.example.com", "t", "t.k")

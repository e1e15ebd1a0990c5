"""Certificates from Pebble for the whole service: ordered, shown, shared by web and mail."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import sys
import threading
import time
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.admin.client import ask
from tests.support.named import KEY, Named
from tests.support.ordering import ACME_TEXT, issued, issuer_of, leaf_of, ordering
from tests.support.pebble import EXTERNAL, ChallengeDns, Pebble
from tests.support.ports import Reserved
from tests.support.programs import accepts
from tests.support.router import Router, until

WEB = """
routes:
  - {name: www, match: {ports: $tls, domains: [www.example.test, other.example.test]}, tls: {mode: terminate},
     action: {type: respond, body: hello}}
"""
MAIL = """
email: {hostname: mail.example.test, ports: [{port: $smtp, kind: smtp}, {port: $smtps, kind: smtps}]}
"""


class OrderingCase(SynchronousTestCase):
    dns: ChallengeDns
    pebble: Pebble

    @classmethod
    def setUpClass(cls) -> None:
        cls.dns = ChallengeDns()
        cls.addClassCleanup(cls.dns.close)
        cls.pebble = Pebble(cls.dns.dns)
        cls.addClassCleanup(cls.pebble.close)

    def started(self, router: Router) -> Router:
        self.addCleanup(router.close)
        router.start()
        return router


class TestOrders(OrderingCase):
    def test_web_and_mail_get_their_certificates(self) -> None:
        """By tls-alpn-01 for the web, by http-01 on a port that nobody else wants for mail; keys are their owner's."""
        router = self.started(ordering(self.pebble, WEB + MAIL, ports=("smtp", "smtps")))
        self.assertIn("CN=", issuer_of(self.pebble.tls.port, "www.example.test"))
        for name in ("www.example.test", "other.example.test"):
            leaf = issued(self.pebble.tls.port, name)
            self.assertIn(name, str(leaf.extensions))
        issued(router.ports["smtps"], "mail.example.test")
        issued(router.ports["smtp"], None, starttls=True)
        for path in (router.state / "acme").rglob("*.pem"):
            self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)
        self.assertEqual(len(router.said("certificate issued by")), 3)


class TestMail(OrderingCase):
    def test_a_host_of_mail_alone(self) -> None:
        """No route listens where authorities ask: a port is opened for them, gives 404 to everybody else, and moves to
        a route that wants it at a reload, and back.
        """
        router = self.started(ordering(self.pebble, MAIL, ports=("smtp", "smtps")))
        issued(router.ports["smtp"], None, starttls=True)
        self.assertEqual(status(self.pebble.http.port), 404)
        page = "routes: [{name: page, match: {ports: $http}, action: {type: respond, status: 418}}]"
        router.write(ACME_TEXT + MAIL + page)
        self.assertEqual(router.reload()["problems"], [])
        self.assertEqual(status(self.pebble.http.port), 418)
        router.write(ACME_TEXT + MAIL)
        self.assertEqual(router.reload()["problems"], [])
        self.assertEqual(status(self.pebble.http.port), 404)
        os.kill(router.pids()["edge"], signal.SIGKILL)
        router.expected.append("edge has ended|edge.*killed|died")
        until(lambda: responds(self.pebble.http.port))
        router.write(MAIL)
        self.assertEqual(router.reload()["problems"], [])
        until(lambda: not accepts(self.pebble.http.port))
        until(lambda: "dcrouter" in issuer_of(router.ports["smtps"], None))

    def test_a_port_that_somebody_else_has(self) -> None:
        """Is what is wrong with the name, and nothing else: the service starts, and serves the internal certificate."""
        with socket.create_server(("127.0.0.1", self.pebble.http.port)):
            router = self.started(
                ordering(self.pebble, MAIL, ports=("smtp", "smtps"), expected=["the port is taken", "no route listens"])
            )
            until(lambda: router.said("mail.example.test: no certificate"))
            self.assertIn("internal CA", issuer_of(router.ports["smtps"], None))
        issued(router.ports["smtps"], None)


TXT = """
import json, sys, urllib.request
management, action, name, value = sys.argv[1:]
what, body = ("set-txt", {"host": name, "value": value}) if action == "present" else ("clear-txt", {"host": name})
urllib.request.urlopen(f"{management}/{what}", json.dumps(body).encode(), timeout=240)
"""


class TestWildcards(SynchronousTestCase):
    def test_by_dns_for_customers(self) -> None:
        """A wildcard, proved by a program of the operator's, with an account that the authority wants (and that gets
        another key): one certificate for all names of web and mail.
        """
        dns = ChallengeDns()
        self.addCleanup(dns.close)
        pebble = Pebble(dns.dns, external=True)
        self.addCleanup(pebble.close)
        acme = (
            "challenges: [dns-01], key_type: ecdsa-p384, external_account: {key_id: $kid, hmac_key: $hmac}, "
            "dns: {provider: exec, command: [$python, txt.py, '$management']}"
        )
        text = """
routes:
  - {name: all, match: {ports: $tls, domains: ["*.example.test"]}, tls: {mode: terminate}, action: {type: respond}}
"""
        values = {"kid": EXTERNAL[0], "hmac": EXTERNAL[1], "python": sys.executable, "management": dns.management}
        for word, value in values.items():
            acme = acme.replace(f"${word}", value)
        router = ordering(
            pebble, text + MAIL, acme, ports=("smtp", "smtps"), expected=["is revoked", "has another key"]
        )
        self.addCleanup(router.close)
        (router.base / "txt.py").write_text(TXT)
        router.start()
        leaf = issued(pebble.tls.port, "some.example.test")
        key = leaf.public_key()
        assert isinstance(key, EllipticCurvePublicKey)
        self.assertEqual(key.curve.name, "secp384r1")
        self.assertEqual(issued(router.ports["smtp"], None, starttls=True), leaf)
        self.assertEqual(len(router.said("certificate issued by")), 1)
        door = router.state / "admin.sock"
        found = ask(door, "GET", "/certificates")["certificates"]
        self.assertEqual(
            [(one["names"], one["key"]) for one in found if one["source"] == "acme"],
            [(["*.example.test"], "ecdsa-p384")],
        )
        keys = [path.read_bytes() for path in (router.state / "acme" / "accounts").iterdir()]
        self.assertEqual(router.command_line("certs", "account-keys").returncode, 0)
        changed = [path.read_bytes() for path in (router.state / "acme" / "accounts").iterdir()]
        self.assertEqual((len(keys), len(changed)), (1, 1))
        self.assertNotEqual(keys, changed)
        done = router.command_line("certs", "revoke", "*.example.test")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn("*.example.test: revoked\n*.example.test: ordered\n", done.stdout)
        self.assertIn("*.example.test: issued, valid until", done.stdout)
        until(lambda: leaf_of(pebble.tls.port, "some.example.test") != leaf)
        found = ask(door, "GET", "/certificates")["certificates"]
        self.assertEqual([one["source"] for one in found], ["acme"], "the internal CA's is not shown any more")


class TestPassthrough(OrderingCase):
    def test_a_target_orders_for_itself(self) -> None:
        """Through a route that passes its TLS through, while we order for the other name of the same port: each answers
        its own challenges, and nobody shows what is the other's.
        """
        behind = Reserved()
        self.addCleanup(behind.close)
        own = """
routes:
  - {name: own, match: {ports: $tls, domains: [its.example.test]}, tls: {mode: terminate}, action: {type: respond}}
"""
        alpn = "challenges: [tls-alpn-01]"
        target = ordering(self.pebble, own, alpn, tls=behind.port)
        self.addCleanup(target.close)
        front = """
routes:
  - {name: ours, match: {ports: $tls, domains: [ours.example.test]}, tls: {mode: terminate}, action: {type: respond}}
  - {name: through, match: {ports: $tls, domains: [its.example.test]}, tls: {mode: passthrough},
     action: {type: forward, target: {host: 127.0.0.1, port: $behind}}}
"""
        router = self.started(ordering(self.pebble, front, alpn, behind=behind.port))
        target.start()
        leaf = issued(self.pebble.tls.port, "its.example.test")
        self.assertEqual(leaf, leaf_of(behind.port, "its.example.test"))
        issued(self.pebble.tls.port, "ours.example.test")
        self.assertEqual(router.said("certificate issued by")[0].split(":")[0], "ours.example.test")
        self.assertEqual(len(router.said("certificate issued by")), 1)


class TestUpdates(SynchronousTestCase):
    def test_by_updates_of_a_name_server(self) -> None:
        """BIND takes records that our key signs, Pebble asks it, and both are told nothing of ports: a wildcard, the
        mail host and the name itself. Nothing of the proofs is left behind; with a key that the server does not take
        `certs renew` fails, and says why.
        """
        named = Named("example.test")
        self.addCleanup(named.close)
        pebble = Pebble(named.dns)
        self.addCleanup(pebble.close)
        text = """
routes:
  - {name: all, match: {ports: $tls, domains: ["*.web.example.test", web.example.test]}, tls: {mode: terminate},
     action: {type: respond}}
"""
        acme = "challenges: [dns-01], dns: {provider: rfc2136, server: '$named', key_name: $kid, key_secret: {file: t}}"
        acme = acme.replace("$named", named.dns).replace("$kid", KEY[0])
        router = ordering(pebble, text + MAIL, acme, ports=("smtp", "smtps"), expected=["does not take the key"])
        self.addCleanup(router.close)
        (router.base / "t").write_text(KEY[1] + "\n")
        router.start()
        issued(pebble.tls.port, "some.web.example.test")
        issued(pebble.tls.port, "web.example.test")
        issued(router.ports["smtp"], None, starttls=True)
        for name in ("_acme-challenge.web.example.test", "_acme-challenge.mail.example.test"):
            until(lambda name=name: not named.txt(name))
        (router.base / "t").write_text(KEY[1][:-8] + "c" * 8 + "\n")
        self.assertEqual(router.reload()["problems"], [])
        done = router.command_line("certs", "renew", "web.example.test", "mail.example.test")
        self.assertEqual(done.returncode, 1)
        for name in ("web.example.test", "mail.example.test"):
            self.assertRegex(done.stderr, f"{name}: .*does not take the key updates")
        error = [one["last_error"] for one in json.loads(router.command_line("certs", "--json").stdout)]
        self.assertIn("does not take the key updates", str(error))
        self.assertNotIn(KEY[1], str(router.log()) + str(error))


class TestManyNames(OrderingCase):
    def test_many_at_once(self) -> None:
        """Two hundred are served by the internal CA from the first moment, and get their own at the pace that is kept
        (the usual one, in a tenth of its time); none of them fails, and none is ordered twice.
        """
        names = [f"n{number}.example.test" for number in range(200)]
        text = """
routes: [{name: many, match: {ports: $tls, domains: [%s]}, tls: {mode: terminate}, action: {type: respond}}]
"""
        router = self.started(ordering(self.pebble, text % ", ".join(names), orders=20, period=1.0))
        self.assertIn("CN=", issuer_of(self.pebble.tls.port, names[-1]))
        until(lambda: len(router.said("certificate issued by")) == len(names), 300, 0.5)
        until(lambda: all("Pebble" in issuer_of(self.pebble.tls.port, name) for name in names))
        self.assertEqual(router.said("no certificate"), [])
        began = json.loads((router.state / "acme" / "directories.json").read_text())[self.pebble.url]["orders"]
        self.assertEqual(len(began), 20)


class TestPhases(OrderingCase):
    def test_a_kill_in_every_phase(self) -> None:
        """The next life finds the name as one that has failed, waits, and ends up with its certificate; no order is
        begun sooner than the back-off says.
        """
        router = self.started(ordering(self.pebble, WEB, wait=1.5))
        for pause in (0.0, 0.1, 0.3):
            until(lambda: list((router.state / "acme" / "certificates").glob("*.json")))
            time.sleep(pause)
            assert router.process is not None
            router.process.kill()
            router.process.wait()
            began = [json.loads(path.read_text()) for path in (router.state / "acme" / "certificates").glob("*.json")]
            router.start()
            for record in began:
                if record["failures"]:
                    self.assertGreater(record["until"], 0)
            self.assertIn("CN=", issuer_of(self.pebble.tls.port, "www.example.test"))
        for name in ("www.example.test", "other.example.test"):
            issued(self.pebble.tls.port, name)


class TestReloads(OrderingCase):
    def test_names_that_change_while_orders_run(self) -> None:
        """What is new is ordered, what has gone is not shown any more, what stays is not ordered twice."""
        router = self.started(ordering(self.pebble, WEB))
        router.write(ACME_TEXT + WEB.replace("other.", "third."))
        self.assertEqual(router.reload()["problems"], [])
        for name in ("www.example.test", "third.example.test"):
            issued(self.pebble.tls.port, name)
        before = len(router.said("certificate issued by"))
        router.write(ACME_TEXT + WEB.replace("other.", "fourth."))
        self.assertEqual(router.reload()["problems"], [])
        issued(self.pebble.tls.port, "fourth.example.test")
        self.assertEqual(len(router.said("certificate issued by")), before + 1)
        self.assertEqual(len(router.said("^www.example.test: certificate issued by")), 1)


class TestLives(SynchronousTestCase):
    """With certificates that live for seconds."""

    def test_renewal_under_live_traffic(self) -> None:
        """Clients come all the time, in both ways, and none of them is refused or shown something that has expired."""
        dns = ChallengeDns()
        self.addCleanup(dns.close)
        pebble = Pebble(dns.dns, lifetime=40)
        self.addCleanup(pebble.close)
        router = ordering(
            pebble, WEB + MAIL, "renew_at: 0.15", ports=("smtp", "smtps"), expected=["could not be renewed"]
        )
        self.addCleanup(router.close)
        router.start()
        issued(pebble.tls.port, "www.example.test")
        issued(router.ports["smtp"], None, starttls=True)
        seen: set[int] = set()
        end = time.monotonic() + 90
        while len(seen) < 4:
            self.assertLess(time.monotonic(), end, "it was not renewed")
            for leaf in (
                leaf_of(pebble.tls.port, "www.example.test"),
                leaf_of(router.ports["smtp"], None, starttls=True),
            ):
                self.assertIn("Pebble", leaf.issuer.rfc4514_string())
                self.assertGreater(leaf.not_valid_after_utc, datetime.now(UTC))
                seen.add(leaf.serial_number)


class TestDemand(OrderingCase):
    def test_at_the_first_handshake(self) -> None:
        """Which is served at once by the internal CA; the asker decides, and is asked once."""
        asked: list[str] = []

        class Asker(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path)
                self.send_response(200 if "good" in self.path else 404)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *args: object) -> None:
                return

        server = HTTPServer(("127.0.0.1", 0), Asker)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        text = (
            "  on_demand: {ask: 'http://127.0.0.1:$asker/may?x=y', rate: 100/s}\n"
            "routes: [{name: any, match: {ports: $tls, domains: ['**.example.test']}, tls: {mode: terminate}, "
            "action: {type: respond}}]"
        )
        router = self.started(ordering(self.pebble, text, asker=server.server_port))
        self.assertIn("internal CA", issuer_of(self.pebble.tls.port, "good.deep.example.test"))
        issued(self.pebble.tls.port, "good.deep.example.test")
        for _ in range(3):
            self.assertIn("internal CA", issuer_of(self.pebble.tls.port, "bad.example.test"))
        until(lambda: len(asked) == 2)
        self.assertEqual(asked[0], "/may?x=y&domain=good.deep.example.test")
        until(lambda: router.said("wants no certificate for it"))


def status(port: int) -> int:
    """Of an HTTP request to it."""
    with socket.create_connection(("127.0.0.1", port), 30) as sock:
        sock.sendall(b"GET /x HTTP/1.1\r\nHost: mail.example.test\r\n\r\n")
        return int(sock.recv(4096).split()[1])


def responds(port: int) -> bool:
    try:
        return status(port) == 404
    except (OSError, IndexError):
        return False

"""SCRAM as a whole: bound and unbound logins over real TLS, downgrades, names that nobody has, and real clients."""

from __future__ import annotations

import select
import socket
import subprocess
import threading
from typing import Any

from attrs import evolve
from twisted.trial.unittest import TestCase

from dcrouter.config.accounts import Auth, AuthFailures, User
from dcrouter.wire.scram import Verifier
from tests.mail.house import House, in_thread
from tests.mail.server.test_auth import ALICE, MAIL, OURS
from tests.support.facts import until
from tests.support.peers import require
from tests.support.scramclient import ScramClient
from tests.support.tlsline import TlsLine, challenge

CAROL = evolve(
    ALICE,
    name="carol@x.test",
    may_send_as=("carol@x.test",),
    scram=str(Verifier.make("secret", iterations=4096)),
)
NAME = "carol@x.test"


def log_in(client: TlsLine, scram: ScramClient, mechanism: str) -> str:
    """The last reply of a login in which the server must prove itself too."""
    reply = client.say(f"AUTH {mechanism}")
    if reply != "334 ":
        return reply
    reply = client.respond(scram.first())
    if not reply.startswith("334"):
        return reply
    reply = client.respond(scram.final(challenge(reply)))
    if not reply.startswith("334"):
        return reply
    if not scram.proves(challenge(reply)):
        return "the server does not know the verifier"
    return client.say("")


def after_ehlo(case: TestCase, port: int) -> int:
    """A port that leads to `port` once EHLO was said there: gsasl begins with STARTTLS, which we take behind EHLO."""
    listener = socket.create_server(("127.0.0.1", 0))
    case.addCleanup(listener.close)

    def lead() -> None:
        here, _ = listener.accept()
        there = socket.create_connection(("127.0.0.1", port), timeout=240)
        here.sendall(there.recv(4096))
        there.sendall(b"EHLO c.test\r\n")
        while b"\n250 " not in there.recv(4096):
            pass
        ways = {here: there, there: here}
        while all(ways):
            for side in select.select(list(ways), [], [], 30)[0]:
                data = side.recv(65536)
                if not data:
                    here.close()
                    there.close()
                    return
                ways[side].sendall(data)

    threading.Thread(target=lead, daemon=True).start()
    return int(listener.getsockname()[1])


class ProofTests(TestCase):
    def house(self, *users: User, **auth: Any) -> House:
        return House(self, OURS, auth=Auth(users=users or (CAROL,), **auth))

    async def test_bound_and_unbound(self) -> None:
        """RFC 5802 6, RFC 9266, RFC 5929: each binding of each version of TLS; the same data elsewhere is refused."""
        port = self.house().listen("smtps")

        def act() -> None:
            for version, kinds in (
                ("TLSv1.3", ("tls-exporter", "tls-server-end-point")),
                ("TLSv1.2", ("tls-unique", "tls-server-end-point")),
            ):
                for kind in (*kinds, None):
                    client = TlsLine(port, version)
                    self.assertIn("AUTH SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN LOGIN", client.hello)
                    flag, binding = ("n", b"") if kind is None else (f"p={kind}", client.binding(kind))
                    scram = ScramClient(NAME, "secret", flag=flag, binding=binding)
                    mechanism = "SCRAM-SHA-256" + ("-PLUS" if kind else "")
                    self.assertEqual(log_in(client, scram, mechanism)[:9], "235 2.7.0", (version, kind))
                    self.assertEqual(client.say("MAIL FROM:<carol@x.test>")[:3], "250")
                    client.close()
                there, here = TlsLine(port, version), TlsLine(port, version)
                scram = ScramClient(NAME, "secret", flag=f"p={kinds[0]}", binding=there.binding(kinds[0]))
                self.assertEqual(log_in(here, scram, "SCRAM-SHA-256-PLUS")[:9], "535 5.7.8")
                here.close()
                there.close()

        await in_thread(act)

    async def test_a_binding_of_a_session_that_goes_on(self) -> None:
        """RFC 5929 3.1: with TLS 1.2's resumption, tls-unique is the server's Finished, which comes first."""
        port = self.house().listen("smtps")

        def act() -> str:
            first = TlsLine(port, "TLSv1.2")
            client = TlsLine(port, "TLSv1.2", first)
            first.close()
            scram = ScramClient(NAME, "secret", flag="p=tls-unique", binding=client.tls.get_peer_finished() or b"")
            return log_in(client, scram, "SCRAM-SHA-256-PLUS")

        self.assertEqual((await in_thread(act))[:9], "235 2.7.0")

    async def test_refusals(self) -> None:
        """Wrong password, downgrade, somebody else's rights, a lie about the binding: 535 5.7.8; malformed: 501."""
        house = self.house()
        port = house.listen("smtps")

        def act() -> list[str]:
            replies = []
            for scram, mechanism in (
                (ScramClient(NAME, "wrong"), "SCRAM-SHA-256"),
                (ScramClient(NAME, "secret", flag="y"), "SCRAM-SHA-256"),
                (ScramClient(NAME, "secret", authzid="root@x.test"), "SCRAM-SHA-256"),
                (ScramClient(NAME, "secret", flag="p=tls-exporter", binding=b"x" * 32), "SCRAM-SHA-256-PLUS"),
                (ScramClient(NAME, "secret", flag="p=tls-unique", binding=b"x" * 12), "SCRAM-SHA-256-PLUS"),
                (ScramClient(NAME, "secret"), "SCRAM-SHA-256-PLUS"),
                (ScramClient("x=y", "secret"), "SCRAM-SHA-256"),
                (ScramClient("CAROL@x.test", "secret", authzid="Carol@x.test"), "SCRAM-SHA-256"),
            ):
                client = TlsLine(port)
                replies.append(log_in(client, scram, mechanism)[:9])
                client.close()
            return replies

        replies = await in_thread(act)
        self.assertEqual(replies, ["535 5.7.8"] * 5 + ["501 5.5.2"] * 2 + ["235 2.7.0"])

    async def test_who_exists_is_not_told(self) -> None:
        """The challenge for a name that nobody has looks like any other, and is the same one after a restart."""
        first = self.house()

        def salts(port: int) -> list[bytes]:
            found = []
            for name in (NAME, "nobody@x.test", "Nobody@x.test", "somebody@x.test", "nobody@x.test"):
                client = TlsLine(port)
                client.say("AUTH SCRAM-SHA-256")
                found.append(challenge(client.respond(ScramClient(name, "x").first())).partition(b",")[2])
                client.close()
            return found

        before = await in_thread(salts, first.listen("smtps"))
        await first.close()
        house = House(self, OURS, state=first.state, auth=Auth(users=(CAROL,)))
        after = await in_thread(salts, house.listen("smtps"))
        self.assertEqual(before, after)
        self.assertEqual(before[1], before[2])
        self.assertEqual(len(set(before)), 3)
        self.assertEqual({(len(one), one[-7:]) for one in before}, {(len(before[0]), b",i=4096")})

    async def test_failures_count(self) -> None:
        """As wrong passwords do: the address is banned, and so is its right proof."""
        house = self.house(failures=AuthFailures(max=2))
        port, smtp = house.listen("smtps"), house.listen("submission")

        def act() -> list[str]:
            client = TlsLine(port)
            wrong = [log_in(client, ScramClient(NAME, "wrong"), "SCRAM-SHA-256")[:9] for _ in range(2)]
            client.close()
            return wrong

        self.assertEqual(await in_thread(act), ["535 5.7.8", "421 4.7.0"])
        self.assertEqual(house.mta.status()["banned"], 1)
        self.assertTrue(smtp)

    async def test_the_end_of_an_exchange(self) -> None:
        """RFC 4954 4: `*` ends it with 501 at every step, the last one too; a client that answers the server's last
        words with something is malformed; and what is said then is a command."""
        port = self.house().listen("smtps")

        def act() -> None:
            client = TlsLine(port)
            scram = ScramClient(NAME, "secret")
            client.say("AUTH SCRAM-SHA-256")
            self.assertEqual(client.say("*")[:9], "501 5.7.0")
            client.say("AUTH SCRAM-SHA-256")
            client.respond(scram.first())
            self.assertEqual(client.say("*")[:9], "501 5.7.0")
            for last, expected in (("*", "501 5.7.0"), ("eA==", "501 5.5.2"), ("QUIT", "501 5.5.2")):
                client.say("AUTH SCRAM-SHA-256")
                reply = client.respond(scram.final(challenge(client.respond(scram.first()))))
                self.assertTrue(scram.proves(challenge(reply)))
                self.assertEqual(client.say(last)[:9], expected)
                self.assertEqual(client.say("MAIL FROM:<carol@x.test>")[:9], "530 5.7.0")
            self.assertEqual(log_in(client, scram, "SCRAM-SHA-256")[:9], "235 2.7.0")
            self.assertEqual(client.say("AUTH SCRAM-SHA-256")[:9], "503 5.5.1")
            client.close()

        await in_thread(act)

    async def test_one_without_a_verifier_takes_it_from_all(self) -> None:
        """A port announces only what every source can check: 504 5.5.4 for what it does not."""
        port = self.house(CAROL, ALICE).listen("smtps")

        def act() -> list[str]:
            client = TlsLine(port)
            return [client.hello, client.say("AUTH SCRAM-SHA-256"), client.say("AUTH SCRAM-SHA-256-PLUS")]

        hello, *replies = await in_thread(act)
        self.assertIn("250-AUTH PLAIN LOGIN\n", hello)
        self.assertEqual([reply[:9] for reply in replies], ["504 5.5.4"] * 2)

    async def test_real_clients(self) -> None:
        """msmtp and gsasl by SCRAM-SHA-256, gsasl by -PLUS over TLS 1.3 and 1.2; a wrong password fails."""
        msmtp, gsasl = require("msmtp"), require("gsasl")
        house = self.house()
        smtps, submission = house.listen("smtps"), house.listen("submission")
        runs: list[tuple[list[str], bool]] = []
        for password, good in (("secret", True), ("wrong", False)):
            with_msmtp = [
                msmtp, "--host=127.0.0.1", f"--port={smtps}", "--tls=on", "--tls-starttls=off",
                "--tls-certcheck=off", "--auth=scram-sha-256", f"--user={NAME}", f"--from={NAME}",
                f"--passwordeval=echo {password}", "b@local.test",
            ]  # fmt: skip
            runs.append((with_msmtp, good))
            for mechanism, *options in (
                ("SCRAM-SHA-256", "--no-cb"),
                ("SCRAM-SHA-256-PLUS",),
                ("SCRAM-SHA-256-PLUS", "--priority=NORMAL:-VERS-TLS1.3"),
            ):
                with_gsasl = [
                    gsasl, "--smtp", f"--connect=127.0.0.1:{after_ehlo(self, submission)}", f"--mechanism={mechanism}",
                    f"--authentication-id={NAME}", "--authorization-id=", f"--password={password}", "--verbose",
                    "--starttls", "--x509-ca-file=", *options,
                ]  # fmt: skip
                runs.append((with_gsasl, good))
        mail = MAIL.replace("alice", "carol").encode()
        for argv, good in runs:
            done = await in_thread(subprocess.run, argv, input=mail, capture_output=True, timeout=240)
            self.assertEqual(done.returncode == 0, good, (argv, done.stdout + done.stderr))
        await until(lambda: len(house.mails("b@local.test")) == 1)
        self.assertEqual(house.mta.status()["logins"], 4)

"""Submission as a whole: real clients log in on each kind of port, send as themselves and as others, and are banned."""

from __future__ import annotations

import smtplib
import socket
import ssl
import subprocess
from base64 import b64encode
from collections.abc import Callable
from ipaddress import ip_network
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.logger import LogLevel, formatEvent
from twisted.trial.unittest import TestCase

from dcrouter.config.accounts import Auth, AuthFailures, User
from dcrouter.config.mail import MailTimeouts
from dcrouter.config.rules import Deliver, Rule, RuleMatch
from tests.mail.house import HOSTNAME, Client, House, dialogue, in_thread
from tests.mail.server.accounts import HASHES
from tests.support.facts import until
from tests.support.logged import logged
from tests.support.peers import require, require_swaks_tls

ALICE = User(name="alice@x.test", password_hash=HASHES["secret"], may_send_as=("alice@x.test", "*@alice.test"))
OURS = Rule(
    name="ours",
    match=RuleMatch(recipients=("*@local.test",), clients="may_relay"),
    action=Deliver(maildir="maildir/{recipient}"),
)
T = TypeVar("T")

PLAIN = "AUTH PLAIN " + b64encode(b"\0alice@x.test\0secret").decode()
HEAD = "From: Alice <alice@x.test>\r\n"
MAIL = HEAD + "Subject: x\r\n\r\ntext\r\n"


def client_of(house: House, port: int, kind: str) -> smtplib.SMTP:
    """Blocking: a client under TLS that has said EHLO."""
    context = ssl.create_default_context(cafile=house.ca_file)
    if kind == "smtps":
        client: smtplib.SMTP = _Smtps("127.0.0.1", port, timeout=240, context=context)
    else:
        client = Client(port)
        client.ehlo("c.test")
        client.starttls(context=context)
    client.ehlo("c.test")
    return client


class AuthTests(TestCase):
    def house(self, *rules: Rule, **email: Any) -> House:
        auth = email.pop("auth", Auth(users=(ALICE,)))
        return House(self, *(rules or (OURS,)), auth=auth, **email)

    def talk(self, house: House, port: int, kind: str, act: Callable[[smtplib.SMTP], T]) -> Deferred[T]:
        """Fires with what `act` gives of a client under TLS."""

        def run() -> T:
            with client_of(house, port, kind) as client:
                return act(client)

        return in_thread(run)

    async def test_both_mechanisms_on_every_kind_of_port(self) -> None:
        """AUTH opens the relay, Received tells of it (RFC 3848), Date and Message-ID are added and nothing else."""
        house = self.house()
        count = 0
        for kind in ("smtp", "submission", "smtps"):
            port = house.listen(kind)
            for mechanism in ("PLAIN", "LOGIN"):

                def act(client: smtplib.SMTP, mechanism: str = mechanism) -> None:
                    self.assertEqual(client.esmtp_features["auth"].split(), ["PLAIN", "LOGIN"])
                    client.user, client.password = "Alice@x.test", "secret"
                    self.assertEqual(client.auth(mechanism, getattr(client, f"auth_{mechanism.lower()}"))[0], 235)
                    client.sendmail("alice@x.test", ["b@local.test"], MAIL)

                await self.talk(house, port, kind, act)
                count += 1
                await until(lambda count=count: len(house.mails("b@local.test")) == count)
                head, _, text = house.mails("b@local.test")[-1].partition(b"\n\n")
                self.assertIn(b" with ESMTPSA id ", head)
                self.assertRegex(
                    head.partition(b";\n\t")[2],
                    rb"\A.*\nDate: .*\nMessage-ID: <\w+@mail.example.test>\nFrom: .*\nSubject: x\Z",
                )
                self.assertEqual(text, b"text\n")
        self.assertEqual(house.mta.status()["logins"], 6)

    async def test_strangers_are_told_to_log_in(self) -> None:
        """530 5.7.0 before TLS and after it on submission; on smtp they are strangers to the rules; wrong is 535."""
        house = self.house()
        submission, smtp, smtps = (house.listen(kind) for kind in ("submission", "smtp", "smtps"))
        clear = await in_thread(dialogue, submission, "EHLO c.test", "MAIL FROM:<a@x.test>", PLAIN)
        self.assertEqual([line[:9] for line in clear[2:]], [b"530 5.7.0"] * 2)
        clear = await in_thread(dialogue, smtp, "EHLO c.test", PLAIN, "MAIL FROM:<a@x.test>", "RCPT TO:<b@local.test>")
        self.assertEqual([line[:9] for line in clear[2:]], [b"538 5.7.1", b"250 2.1.0", b"550 5.7.1"])

        def act(client: smtplib.SMTP) -> list[int]:
            wrong = self.assertRaises(smtplib.SMTPAuthenticationError, client.login, "alice@x.test", "wrong")
            return [wrong.smtp_code, client.docmd("MAIL FROM:<alice@x.test>")[0]]

        self.assertEqual(await self.talk(house, submission, "submission", act), [535, 530])
        self.assertEqual(await self.talk(house, smtps, "smtps", act), [535, 530])
        self.assertEqual(house.mta.status()["failed_logins"], 4)  # smtplib tries both mechanisms

    async def test_tls_where_it_is_required(self) -> None:
        """`never` lets trusted clients submit in clear, `always` wants TLS on port 25 too."""
        trusted = (ip_network("127.0.0.0/8"),)
        for require_tls, kind, reply in (
            ("never", "submission", b"250 2.1.0"),
            ("submission", "submission", b"530 5.7.0"),
            ("submission", "smtp", b"250 2.1.0"),
            ("always", "smtp", b"530 5.7.0"),
        ):
            house = self.house(require_tls=require_tls, trusted=trusted)
            replies = await in_thread(dialogue, house.listen(kind), "EHLO c.test", "MAIL FROM:<a@x.test>")
            self.assertEqual(replies[-1][:9], reply)

    async def test_trusted_clients_relay_without_auth(self) -> None:
        """On every kind of port, as anybody; submission adds what lacks, also without From."""
        house = self.house(trusted=(ip_network("192.0.2.0/24"),))
        for kind in ("smtp", "submission", "smtps"):
            port = house.listen(kind, peer=("192.0.2.7", 4711))
            await self.talk(
                house,
                port,
                kind,
                lambda client: client.sendmail("printer@any.test", ["b@local.test"], "Subject: x\r\n\r\n"),
            )
        await until(lambda: len(house.mails("b@local.test")) == 3)
        self.assertEqual([mail.count(b"\nMessage-ID: ") for mail in house.mails("b@local.test")], [0, 1, 1])
        stranger = house.listen("submission", peer=("198.51.100.7", 4711))
        code = await self.talk(house, stranger, "submission", lambda client: client.docmd("MAIL FROM:<a@x.test>")[0])
        self.assertEqual(code, 530)

    async def test_an_account_sends_as_itself(self) -> None:
        """553 5.7.1 at MAIL, 550 5.7.1 after the message for From and Sender; the null sender passes; and on port 25
        without a login nobody looks."""
        house = self.house()

        def act(client: smtplib.SMTP) -> list[tuple[int, bytes]]:
            client.login("alice@x.test", "secret")
            replies = [client.docmd(f"MAIL FROM:<{one}>") for one in ("bob@x.test", "alice@x.test.evil.test")]
            for sender, head in (
                ("alice@x.test", "From: bob@x.test\r\n"),
                ("alice@x.test", HEAD + "Sender: bob@x.test\r\n"),
                ("alice@x.test", ""),
                ("any@alice.test", "From: <any@ALICE.test>\r\n"),
                ("", HEAD),
            ):
                client.docmd(f"MAIL FROM:<{sender}>")
                client.docmd("RCPT TO:<b@local.test>")
                replies.append(client.data(head + "Subject: x\r\n\r\ny\r\n"))
            return replies

        port = house.listen("submission")
        replies = await self.talk(house, port, "submission", act)
        self.assertEqual(
            [f"{code} {text[:5].decode()}" for code, text in replies],
            ["553 5.7.1", "553 5.7.1", "550 5.7.1", "550 5.7.1", "550 5.6.0", "250 2.0.0", "250 2.0.0"],
        )
        await until(lambda: len(house.mails("b@local.test")) == 2)

    async def test_banned_addresses(self) -> None:
        """421 as greeting and on the way, an alert on 465; on port 25 mail flows and AUTH does not."""
        house = self.house(
            Rule(
                name="all", match=RuleMatch(recipients=("*@local.test",)), action=Deliver(maildir="maildir/{recipient}")
            ),
            auth=Auth(users=(ALICE,), failures=AuthFailures(max=2)),
        )
        submission, smtps, smtp = (house.listen(kind) for kind in ("submission", "smtps", "smtp"))

        def guess(client: smtplib.SMTP) -> list[int]:
            return [
                self.assertRaises(smtplib.SMTPAuthenticationError, client.login, "alice@x.test", "wrong").smtp_code
            ] + ([] if client.sock is not None else [0])

        # smtplib's login tries each mechanism: two failures.
        self.assertEqual((await self.talk(house, submission, "submission", guess))[0], 421)
        greeting = await in_thread(dialogue, submission)
        self.assertEqual(greeting[0][:9], b"421 4.7.0")
        error = await in_thread(self.assertRaises, (ssl.SSLError, ConnectionError), client_of, house, smtps, "smtps")
        self.assertIsNotNone(error)

        def act(client: smtplib.SMTP) -> int:
            code = client.docmd(PLAIN)[0]
            client.sendmail("a@x.test", ["b@local.test"], "Subject: x\r\n\r\n")
            return code

        self.assertEqual(await self.talk(house, smtp, "smtp", act), 454)
        await until(lambda: house.mails("b@local.test"))
        self.assertEqual(house.mta.status()["banned"], 1)
        await until(lambda: len(house.closed) == 4)
        self.assertEqual([one.reason for one in house.closed].count("banned"), 2)

    async def test_half_a_login_runs_out_of_time(self) -> None:
        """421 4.4.2 after timeouts.command; one that hangs up instead leaves nothing."""
        house = self.house(timeouts=MailTimeouts(command=1.5))
        port = house.listen("smtps")

        def act(client: smtplib.SMTP) -> list[int]:
            return [client.docmd("AUTH LOGIN")[0], client.getreply()[0]]

        self.assertEqual(await self.talk(house, port, "smtps", act), [334, 421])

        def hang_up() -> None:
            client = client_of(house, port, "smtps")
            client.docmd("AUTH PLAIN")
            assert client.sock is not None
            client.sock.close()
            client = client_of(house, port, "smtps")
            client.send(PLAIN + "\r\n")
            client.close()

        await in_thread(hang_up)
        await until(lambda: house.mta.status()["connections"] == 0)

    async def test_nothing_of_a_login_is_ever_logged(self) -> None:
        """All lines at every level, and the access log: neither the password nor its base64, of good and bad logins."""
        told = logged(self)
        house = self.house()
        port, smtp = house.listen("smtps"), house.listen("smtp")
        wrong = b64encode(b"\0alice@x.test\0hunter2").decode()

        def act(client: smtplib.SMTP) -> None:
            for line in (
                "AUTH PLAIN " + wrong,
                "AUTH PLAIN " + wrong + "=",
                "AUTH LOGIN",
                b64encode(b"alice@x.test").decode(),
                b64encode(b"hunter2").decode(),
                PLAIN,
            ):
                client.docmd(line)
            client.sendmail("alice@x.test", ["b@local.test"], MAIL)

        await self.talk(house, port, "smtps", act)
        await in_thread(
            dialogue, smtp, "EHLO c", "AUTH PLAIN " + wrong, "AUTH LOGIN", b64encode(b"hunter2") + b"\r\n", "NOOP"
        )
        await until(lambda: len(house.closed) == 2)
        failed = "login of alice@x.test from 127.0.0.1 by password failed"
        self.assertTrue([event for event in told if failed in formatEvent(event)])
        everything = repr(told) + repr(house.closed) + "".join(map(formatEvent, told))
        for secret in ("hunter2", "secret", wrong, PLAIN[11:], b64encode(b"hunter2").decode().rstrip("=")):
            self.assertNotIn(secret, everything)
        self.assertTrue(all(event["log_level"] is not LogLevel.critical for event in told if "log_level" in event))

    async def test_swaks_and_msmtp_log_in(self) -> None:
        """Both mechanisms of both, over STARTTLS and on 465; a wrong password ends in their error."""
        swaks, msmtp = require_swaks_tls(), require("msmtp")
        house = self.house()
        submission, smtps = house.listen("submission"), house.listen("smtps")
        runs: list[tuple[list[str], bool]] = []
        for mechanism in ("plain", "login"):
            for port, swaks_tls, starttls in ((submission, "-tls", "on"), (smtps, "-tlsc", "off")):
                for password, good in (("secret", True), ("wrong", False)):
                    runs.append(
                        (
                            [
                                swaks, "-s", "127.0.0.1", "-p", str(port), swaks_tls, "-f", "alice@x.test",
                                "-t", "b@local.test", "--h-From", "alice@x.test", "-a", mechanism.upper(),
                                "-au", "alice@x.test", "-ap", password,
                            ],
                            good,
                        )
                    )  # fmt: skip
                    runs.append(
                        (
                            [
                                msmtp, "--host=127.0.0.1", f"--port={port}", "--tls=on", f"--tls-starttls={starttls}",
                                "--tls-certcheck=off", f"--auth={mechanism}", "--user=alice@x.test",
                                "--from=alice@x.test", f"--passwordeval=echo {password}", "b@local.test",
                            ],
                            good,
                        )
                    )  # fmt: skip
        for argv, good in runs:
            done = await in_thread(subprocess.run, argv, input=MAIL.encode(), capture_output=True, timeout=240)
            self.assertEqual(done.returncode == 0, good, (argv, done.stdout + done.stderr))
        await until(lambda: len(house.mails("b@local.test")) == 8)


class _Smtps(smtplib.SMTP_SSL):
    """Of a server whose certificate has another name than where it is reached."""

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        plain = socket.create_connection((host, port), timeout)
        return self.context.wrap_socket(plain, server_hostname=HOSTNAME)

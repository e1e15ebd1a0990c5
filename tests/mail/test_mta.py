"""The mail half as a whole: real clients in, Maildirs and next hops out."""

from __future__ import annotations

import contextlib
import os
import smtplib
import socket
import ssl
import subprocess
from pathlib import Path

from twisted.trial.unittest import TestCase

from dcrouter.config.mail import MailTimeouts
from dcrouter.config.rules import Reject, Rule, RuleMatch
from dcrouter.mail.queue.stores.sqlite import SqliteStore
from dcrouter.mail.server.protocol import MailProtocol
from tests.mail.house import HOSTNAME, LOCAL, LOOPBACK, Client, House, dialogue, forward, in_thread, send
from tests.mail.nexthop import ScriptedHop
from tests.support.facts import until
from tests.support.peers import require, require_swaks_tls
from tests.support.ports import reserved

HEAD = ("EHLO c.test", "MAIL FROM:<a@x.test>")


class CounterTests(TestCase):
    def test_every_counter_is_explained(self) -> None:
        """In the table of docs/mail.md."""
        house = House(self)
        page = (Path(__file__).parents[2] / "docs" / "mail.md").read_text("utf-8")
        table = page.partition("### Counters")[2].partition("\n##")[0]
        self.assertEqual([one for one in house.mta.status() if f"`{one}`" not in table], [])


class ReceptionTests(TestCase):
    async def test_a_message_is_delivered_once_to_each_recipient(self) -> None:
        """Two recipients, one of them twice: two files, with trace fields, LF line ends and the text as it was."""
        house = House(self)
        port = house.listen(peer=("192.0.2.9", 4711))
        body = "Subject: x\r\n\r\n..two\r\n.one\r\n"
        await in_thread(send, port, "b@local.test", "c@local.test", "b@local.test", body=body)
        await until(lambda: house.mails("b@local.test") and house.mails("c@local.test"))
        (mail,) = house.mails("b@local.test")
        head, _, text = mail.partition(b"\n\n")
        self.assertEqual(text, b"..two\n.one\n")
        self.assertTrue(head.startswith(b"Return-Path: <a@x.test>\nDelivered-To: b@local.test\nReceived: from "))
        self.assertIn(b"([192.0.2.9])", head)
        self.assertIn(b"by mail.example.test (dcrouter session smtp-1) with ESMTP id ", head)
        self.assertNotIn(b"\r", mail)
        self.assertEqual(len(house.mails("c@local.test")), 1)
        await until(lambda: house.mta.status()["queued"] == 0)

    async def test_a_large_message_goes_through_a_spool_file(self) -> None:
        """Five megabytes with all octets that may be, to a Maildir and to a next hop, and no file stays."""
        hop = ScriptedHop(self)
        house = House(self, LOCAL, forward(hop.port))
        port = house.listen()
        line = bytes(value for value in range(256) if value not in b"\r\n\0") + b"\r\n.dots\r\n"
        body = b"Subject: x\r\n\r\n" + line * 20000

        def deliver() -> None:
            with smtplib.SMTP("127.0.0.1", port, timeout=240) as client:
                client.sendmail("a@x.test", ["b@local.test", "b@example.test"], body)

        await in_thread(deliver)
        await until(lambda: house.mails("b@local.test") and hop.messages, 60)
        self.assertTrue(house.mails("b@local.test")[0].endswith(body.replace(b"\r\n", b"\n")))
        self.assertTrue(hop.messages[0][1].endswith(body))
        await until(lambda: not list((house.state / "mail" / "spool").iterdir()))

    async def test_size_limits_hold_at_mail_and_at_the_end(self) -> None:
        """552 5.3.4 both times, and nothing is kept."""
        house = House(self, max_message_size=200_000)
        port = house.listen()
        replies = await in_thread(dialogue, port, "EHLO c", "MAIL FROM:<a@x.test> SIZE=200001")
        self.assertEqual(replies[-1][:9], b"552 5.3.4")
        big = (b"x" * 98 + b"\r\n") * 2001 + b".\r\n"
        replies = await in_thread(dialogue, port, *HEAD, "RCPT TO:<b@local.test>", "DATA", big)
        self.assertEqual(replies[-1][:9], b"552 5.3.4")
        await until(lambda: not list((house.state / "mail" / "spool").iterdir()))
        self.assertEqual(house.mta.status()["accepted"], 0)

    async def test_mail_that_goes_in_circles_is_refused(self) -> None:
        """RFC 5321 6.3: fifty Received fields are too many, forty-nine are not."""
        house = House(self)
        port = house.listen()
        for count, reply in ((49, b"554 5.4.6"), (48, b"250 2.0.0")):
            body = b"Received: from x by y; now\r\n" * count + b"\r\nReceived: not a field\r\n.\r\n"
            replies = await in_thread(dialogue, port, *HEAD, "RCPT TO:<b@local.test>", "DATA", body)
            self.assertEqual(replies[-1][:9], reply)

    async def test_postmaster_is_always_reached(self) -> None:
        """`<postmaster>` and postmaster@hostname become the configured address and meet the rules."""
        house = House(self)
        port = house.listen()
        await in_thread(send, port, "postmaster@Mail.Example.TEST")
        replies = await in_thread(
            dialogue, port, *HEAD, "RCPT TO:<Postmaster>", "DATA", b"Subject: x\r\n\r\ny\r\n.\r\n"
        )
        self.assertEqual(replies[-1][:3], b"250")
        await until(lambda: len(house.mails("root@local.test")) == 2)

    async def test_the_first_rule_decides_for_each_recipient(self) -> None:
        """A refusal is a reply; who is refused does not stop the others."""
        trap = Rule(
            name="trap",
            match=RuleMatch(recipients=("trap@local.test",)),
            action=Reject(code=550, message="5.1.1 No such user"),
        )
        house = House(self, trap, LOCAL)
        port = house.listen()
        replies = await in_thread(
            dialogue, port, *HEAD, "RCPT TO:<trap@local.test>", "RCPT TO:<x@else.test>", "RCPT TO:<b@local.test>"
        )
        self.assertEqual(replies[3:], [b"550 5.1.1 No such user", b"550 5.7.1 Relaying denied", b"250 2.1.5 OK"])

    async def test_submission_is_refused_until_there_is_a_login(self) -> None:
        """530 5.7.0 at MAIL, in the clear."""
        house = House(self)
        port = house.listen("submission")
        replies = await in_thread(dialogue, port, *HEAD)
        self.assertEqual(replies[-1][:9], b"530 5.7.0")

    async def test_a_client_that_does_not_read_is_not_read(self) -> None:
        """Its replies do not pile up here; once it reads, all of them are there, in clear and in TLS."""
        house = House(self, trusted=LOOPBACK, max_recipients=10)
        port = house.listen()
        context = ssl.create_default_context(cafile=house.ca_file)
        lines = b"RCPT TO:<b@local.test>\r\n" * 1000

        def flood(secure: bool) -> tuple[int, int, int]:
            connection = socket.socket()
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.settimeout(20)
            connection.connect(("127.0.0.1", port))
            if secure:
                connection.recv(1000)
                connection.sendall(b"EHLO c\r\n")
                connection.recv(1000)
                connection.sendall(b"STARTTLS\r\n")
                connection.recv(1000)
                connection = context.wrap_socket(connection, server_hostname=HOSTNAME)
            with connection:
                stream = connection.makefile("rb")
                connection.sendall(b"EHLO c\r\nMAIL FROM:<a@x.test>\r\n")
                while not stream.readline().startswith(b"250 2.1.0"):
                    pass
                connection.settimeout(1)
                sent = 0
                with contextlib.suppress(TimeoutError):
                    while sent < 64_000_000:
                        connection.sendall(lines)
                        sent += len(lines)
                connection.settimeout(20)
                asked = sent // len(lines) * 1000
                return (
                    sent,
                    asked,
                    [stream.readline() for _ in range(asked)].count(b"452 4.5.3 Too many recipients\r\n"),
                )

        for secure in (False, True):
            sent, asked, refused = await in_thread(flood, secure)
            self.assertLess(sent, 64_000_000)
            self.assertEqual(refused, asked - 10)

    async def test_no_room_is_452_and_never_250(self) -> None:
        """A spool that cannot be written: the client is told to come back, and the queue stays empty."""
        house = House(self)
        port = house.listen()
        (house.state / "mail" / "spool").rmdir()
        big = b"Subject: x\r\n\r\n" + b"text\r\n" * 40000 + b".\r\n"
        replies = await in_thread(dialogue, port, *HEAD, "RCPT TO:<b@local.test>", "DATA", big, "NOOP")
        self.assertEqual([reply[:9] for reply in replies[-2:]], [b"451 4.3.0", b"250 2.0.0"])
        self.assertEqual(house.mta.status()["accepted"], 0)
        self.flushLoggedErrors()

    async def test_a_full_store_is_452_until_there_is_room(self) -> None:
        """SQLite says that it is full: 452 4.3.1, and the session goes on; with room the same message is taken."""
        house = House(self)
        port = house.listen()
        assert isinstance(house.mta._store, SqliteStore) and house.mta._store._writer is not None
        writing = house.mta._store._writer._connection
        pages = writing.execute("PRAGMA page_count").fetchone()[0]
        writing.execute(f"PRAGMA max_page_count = {pages}")
        body = b"Subject: x\r\n\r\n" + b"text\r\n" * 9000 + b".\r\n"
        lines: list[bytes | str] = [*HEAD, "RCPT TO:<b@local.test>", "DATA", body]
        replies = await in_thread(dialogue, port, *lines, "NOOP")
        self.assertEqual([reply[:9] for reply in replies[-2:]], [b"452 4.3.1", b"250 2.0.0"])
        writing.execute("PRAGMA max_page_count = 100000")
        replies = await in_thread(dialogue, port, *lines)
        self.assertEqual(replies[-1][:9], b"250 2.0.0")
        self.assertEqual(house.mta.status()["accepted"], 1)
        self.flushLoggedErrors()


class RelayTests(TestCase):
    FORMS = [
        "u@D",
        "u%D@[I]",
        "u%D@H",
        '"u@D"',
        '"u%D"',
        "u@D@[I]",
        '"u@D"@[I]',
        "u@D@H",
        "@[I]:u@D",
        "@H:u@D",
        "D!u",
        "D!u@[I]",
        "D!u@H",
        "u@D.",
        "u@ D",
        "<u@D>@H",
        "u@H:25",
        "u@H\0",
        '"u@D"@H',
        '"D!u"@H',
        "u@\u212bxample.test",
        "u@xn--xample-hva.test",
    ]

    async def test_no_published_form_of_an_address_is_relayed(self) -> None:
        """The list of nmap and ours, from four senders: D is foreign, H a domain of ours, I our address."""
        hop = ScriptedHop(self)
        house = House(self, LOCAL, forward(hop.port))
        port = house.listen()

        def attempt(sender: str, form: str) -> bytes:
            address = form.replace("D", "foreign.test").replace("H", "example.test").replace("I", "127.0.0.1")
            return dialogue(port, "EHLO c", f"MAIL FROM:<{sender}>", f"RCPT TO:<{address}>")[-1]

        for sender in ("", "u@foreign.test", "u@example.test", "u@[127.0.0.1]"):
            for form in self.FORMS:
                reply = await in_thread(attempt, sender, form)
                self.assertEqual(reply[:1], b"5", (sender, form, reply))

    async def test_rcpt_before_mail_is_refused(self) -> None:
        """And so is XCLIENT from a stranger."""
        house = House(self)
        port = house.listen()
        replies = await in_thread(
            dialogue, port, "EHLO c", "RCPT TO:<b@local.test>", "XCLIENT ADDR=127.0.0.1", "AUTH PLAIN AGEAYg=="
        )
        self.assertEqual([reply[:3] for reply in replies[2:]], [b"503", b"502", b"502"])


class TlsTests(TestCase):
    def context(self, house: House) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=house.ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context

    async def test_a_session_of_tls_1_2_that_goes_on(self) -> None:
        """The client has the last word: it is acknowledged at once, or its EHLO would wait (Nagle's algorithm)."""
        house = House(self)
        port = house.listen()
        context = self.context(house)
        context.maximum_version = ssl.TLSVersion.TLSv1_2

        at_once: list[int] = []
        completed = MailProtocol.handshakeCompleted

        def looked_at(protocol: MailProtocol) -> None:
            completed(protocol)
            at_once.append(protocol.transport.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK))

        self.patch(MailProtocol, "handshakeCompleted", looked_at)

        def shaken(session: ssl.SSLSession | None) -> ssl.SSLSocket:
            plain = socket.create_connection(("127.0.0.1", port), timeout=240)
            stream = plain.makefile("rb")
            for line in (b"", b"EHLO c\r\n", b"STARTTLS\r\n"):
                plain.sendall(line)
                while stream.readline()[3:4] == b"-":
                    pass
            stream.close()
            return context.wrap_socket(plain, server_hostname=HOSTNAME, session=session)

        first = await in_thread(shaken, None)
        second = await in_thread(shaken, first.session)
        self.addCleanup(first.close)
        self.addCleanup(second.close)
        self.assertTrue(second.session_reused)
        await until(lambda: len(at_once) == 2)
        self.assertTrue(at_once[1])
        second.sendall(b"EHLO c\r\n")
        self.assertEqual(await in_thread(second.recv, 4), b"250-")

    async def test_starttls_and_mail_under_it(self) -> None:
        """The certificate is email.hostname's, the session begins anew, Received tells of TLS."""
        house = House(self)
        port = house.listen()
        context = self.context(house)

        def deliver() -> None:
            with Client(port) as client:
                client.ehlo("c.test")
                client.starttls(context=context)
                self.assertEqual(client.docmd("MAIL FROM:<a@x.test>")[0], 503)
                client.ehlo("c.test")
                self.assertNotIn("starttls", client.esmtp_features)
                self.assertEqual(client.docmd("STARTTLS")[0], 503)
                client.sendmail("a@x.test", ["b@local.test"], b"Subject: x\r\n\r\ny\r\n")

        await in_thread(deliver)
        await until(lambda: house.mails("b@local.test"))
        (mail,) = house.mails("b@local.test")
        self.assertRegex(
            mail, rb"\(using TLSv1\.3 with cipher TLS_\w+(?: key-exchange \w+)?\)\n\tby .* with ESMTPS id "
        )
        await until(lambda: house.closed)
        event = house.closed[0]
        self.assertEqual((event.tls_version, event.sni, event.reason), ("TLSv1.3", HOSTNAME, "quit"))
        self.assertEqual(list(event.phases), ["tls", "smtp"])

    async def test_implicit_tls_with_a_hello_in_pieces(self) -> None:
        """Port 465: TLS first, however the hello is cut, then the greeting."""
        house = House(self)
        port = house.listen("smtps")
        context = self.context(house)

        def talk(step: int) -> bytes:
            inner, outer = ssl.MemoryBIO(), ssl.MemoryBIO()
            tls = context.wrap_bio(inner, outer, server_hostname=HOSTNAME)
            with socket.create_connection(("127.0.0.1", port), timeout=240) as connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                while True:
                    try:
                        return tls.read(100)
                    except ssl.SSLWantReadError:
                        pending = outer.read()
                        for at in range(0, len(pending), step):
                            connection.sendall(pending[at : at + step])
                        if not pending:
                            inner.write(connection.recv(65536))

        for step in (1, 100, 100000):
            greeting = await in_thread(talk, step)
            self.assertEqual(greeting, b"220 mail.example.test ESMTP\r\n")

    async def test_commands_behind_starttls_are_not_run(self) -> None:
        """In one segment they end the session; in the next one they are a broken hello."""
        house = House(self)
        port = house.listen()
        replies = await in_thread(dialogue, port, "EHLO c", b"STARTTLS\r\nRSET\r\n")
        self.assertEqual(replies[-1][:9], b"554 5.5.0")

        def late() -> bytes:
            with socket.create_connection(("127.0.0.1", port), timeout=240) as connection:
                stream = connection.makefile("rb")
                stream.readline()
                connection.sendall(b"EHLO c\r\n")
                while not stream.readline().startswith(b"250 "):
                    pass
                connection.sendall(b"STARTTLS\r\n")
                while not stream.readline().startswith(b"220 2"):
                    pass
                connection.sendall(b"RSET\r\n")
                return stream.read()

        answer = await in_thread(late)
        self.assertEqual(answer[:3], b"\x15\x03\x03")
        await until(lambda: len(house.closed) == 2)

    async def test_openssl_speaks_starttls_with_us(self) -> None:
        """s_client verifies the chain and gets its EHLO answered."""
        openssl = require("openssl")
        house = House(self)
        port = house.listen()
        done = await in_thread(
            subprocess.run,
            [openssl, "s_client", "-starttls", "smtp", "-connect", f"127.0.0.1:{port}", "-servername", HOSTNAME,
             "-CAfile", house.ca_file, "-verify_return_error", "-quiet", "-crlf"],
            input=b"EHLO c\nQUIT\n",
            capture_output=True,
            timeout=240,
        )  # fmt: skip
        self.assertIn(b"250-mail.example.test greets c", done.stdout)
        self.assertIn(b"221 2.0.0 Bye", done.stdout)


class TimeTests(TestCase):
    async def test_silent_clients_are_sent_away(self) -> None:
        """Before EHLO, between commands, in DATA, in a TLS handshake: 421 or a cut, and the reason is told."""

        def silent(port: int, *lines: bytes) -> bytes:
            with socket.create_connection(("127.0.0.1", port), timeout=240) as connection:
                stream = connection.makefile("rb")
                connection.sendall(b"".join(lines))
                with contextlib.suppress(ConnectionResetError):
                    return stream.read()
                return b""

        start = b"EHLO c\r\nMAIL FROM:<a@x.test>\r\nRCPT TO:<b@local.test>\r\nDATA\r\n"
        for kind, lines, word, phase in (
            ("smtp", b"", b"421 4.4.2", "greeting"),
            ("smtp", b"EHL", b"421 4.4.2", "greeting"),
            ("smtp", b"EHLO c\r\n", b"421 4.4.2", "command"),
            ("smtp", start + b"text", b"421 4.4.2", "data"),
            ("smtps", b"", b"", "greeting"),
            ("smtps", b"\x16\x03\x01\x02\x00", b"", "greeting"),
        ):
            house = House(self, trusted=LOOPBACK, timeouts=MailTimeouts(**{phase: 0.6}))
            answer = await in_thread(silent, house.listen(kind), lines)
            self.assertIn(word, answer)
            await until(lambda house=house: house.closed)
            (event,) = house.closed
            self.assertEqual((event.ended_by, event.reason), ("router", f"{phase} timeout"))

    async def test_draining_lets_transactions_end_and_no_other_begin(self) -> None:
        """Idle sessions get 421 at once; a running one ends with its 250 and then 421."""
        house = House(self, trusted=LOOPBACK)
        port = house.listen()
        idle = socket.create_connection(("127.0.0.1", port), timeout=240)
        busy = socket.create_connection(("127.0.0.1", port), timeout=240)
        self.addCleanup(idle.close)
        self.addCleanup(busy.close)
        busy.sendall(b"EHLO c\r\nMAIL FROM:<a@x.test>\r\nRCPT TO:<b@local.test>\r\nDATA\r\n")
        stream = busy.makefile("rb")

        def upto(mark: bytes) -> None:
            while not stream.readline().startswith(mark):
                pass

        await in_thread(upto, b"354")
        drained = house.mta.drain(20.0)
        last = await in_thread(lambda: idle.makefile("rb").read())
        self.assertTrue(last.splitlines()[-1].startswith(b"421 4.3.2"))
        busy.sendall(b"Subject: x\r\n\r\ny\r\n.\r\n")
        rest = await in_thread(stream.read)
        self.assertEqual([line[:9] for line in rest.splitlines()], [b"250 2.0.0", b"421 4.3.2"])
        await drained
        self.assertEqual(house.mta.status()["accepted"], 1)

    async def test_a_drain_ends_at_its_time(self) -> None:
        """Who does not end by then is cut."""
        house = House(self, trusted=LOOPBACK)
        port = house.listen()
        with socket.create_connection(("127.0.0.1", port), timeout=240) as connection:
            connection.sendall(b"EHLO c\r\nMAIL FROM:<a@x.test>\r\n")
            stream = connection.makefile("rb")
            await in_thread(lambda: [stream.readline() for _ in range(8)])
            await house.mta.drain(0.3)
        self.assertEqual(len(house.closed), 1)

    async def test_clients_that_vanish_are_let_go(self) -> None:
        """In every phase, and nothing of their messages stays."""
        house = House(self, trusted=LOOPBACK)
        port, tls = house.listen(), house.listen("smtps")
        start = b"EHLO c\r\nMAIL FROM:<a@x.test>\r\nRCPT TO:<b@local.test>\r\nDATA\r\n"
        phases = [b"", b"EHLO", b"EHLO c\r\n", start, start + b"x\r\n" * 50000, b"EHLO c\r\nSTARTTLS\r\n"]

        def vanish() -> None:
            for kind in (port, tls):
                for phase in phases:
                    for linger in (False, True):
                        connection = socket.create_connection(("127.0.0.1", kind), timeout=240)
                        if linger:
                            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                        with contextlib.suppress(OSError):
                            connection.sendall(phase)
                        connection.close()

        await in_thread(vanish)
        await until(lambda: len(house.closed) == 24)
        await until(lambda: not list((house.state / "mail" / "spool").iterdir()))
        self.assertEqual(house.mta.status()["connections"], 0)
        self.assertEqual(house.mta.status()["accepted"], 0)


class RealClientTests(TestCase):
    async def test_swaks_delivers(self) -> None:
        """In the clear, pipelined, and under STARTTLS."""
        swaks = require_swaks_tls()
        house = House(self)
        port = house.listen()
        for extra in ([], ["--pipeline"], ["--tls"]):
            done = await in_thread(
                subprocess.run,
                [swaks, "-s", "127.0.0.1", "-p", str(port), "-f", "a@x.test", "-t", "b@local.test", *extra],
                capture_output=True,
                timeout=240,
            )
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        await until(lambda: len(house.mails("b@local.test")) == 3)

    async def test_smtp_source_through_to_smtp_sink(self) -> None:
        """Five hundred messages of twenty clients, all accepted, all delivered, none queued afterwards."""
        source, sink = require("smtp-source"), require("smtp-sink")
        hop = reserved(self)
        user = ["-u", "postfix"] if os.geteuid() == 0 else []  # as root it insists on one, else it may not have any
        process = subprocess.Popen([sink, *user, f"127.0.0.1:{hop}", "100"], stderr=subprocess.DEVNULL)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        await until(lambda: not socket.socket().connect_ex(("127.0.0.1", hop)))
        house = House(self, forward(hop))
        port = house.listen()
        done = await in_thread(
            subprocess.run,
            [source, "-s", "20", "-m", "500", "-l", "4096", "-f", "a@x.test", "-t", "b@example.test",
             f"127.0.0.1:{port}"],
            capture_output=True,
            timeout=240,
        )  # fmt: skip
        self.assertEqual(done.returncode, 0, done.stderr)
        await until(lambda: house.mta.status()["queued"] == 0)
        self.assertEqual(house.mta.status()["delivered"], 500)

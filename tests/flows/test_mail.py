"""Mail through the whole service, with swaks and smtp-source in front and Postfix's smtp-sink behind."""

from __future__ import annotations

import socket
from collections.abc import Sequence

from twisted.trial.unittest import SynchronousTestCase

from tests.support.edge import read_anyhow
from tests.support.knock import knock
from tests.support.mailboxes import messages
from tests.support.peers import require, require_swaks_tls
from tests.support.ports import Reserved
from tests.support.programs import HAProxy, SmtpSink
from tests.support.router import Router, until
from tests.support.shell import run

TEXT = """
proxy_protocol: [{from: [127.0.0.1/32], ports: [$proxied]}]
email:
  hostname: mail.example.test
  postmaster: postmaster@example.test
  max_recipients: 200
  max_message_size: 20MB
  ports:
    - {port: $smtp, kind: smtp}
    - {port: $submission, kind: submission}
    - {port: $smtps, kind: smtps}
    - {port: $proxied, kind: smtp}
  rules:
    - name: nobody
      match: {recipients: ["nobody@example.test"]}
      action: {type: reject, code: 550, message: "5.1.1 No such user"}
    - name: sink
      match: {recipients: ["*@sink.test"]}
      action: {type: forward, targets: [{host: 127.0.0.1, port: $sink}]}
    - {name: local, match: {recipients: ["*@example.test"]}, action: {type: deliver, maildir: "maildir/{recipient}"}}
  security: {max_connections_per_ip: 1000}
  queue: {retry: {base: 200ms, max: 400ms}}
"""
PORTS = ("smtp", "submission", "smtps", "proxied")
WARNED = "nobody can send through port"


class MailCase(SynchronousTestCase):
    router: Router
    sink: SmtpSink

    @classmethod
    def setUpClass(cls) -> None:
        cls.sink = SmtpSink()
        cls.addClassCleanup(cls.sink.close)
        cls.router = Router(TEXT, ports=PORTS, sink=cls.sink.port, expected=[WARNED])
        cls.addClassCleanup(cls.router.close)

    def swaks(self, port: str, to: str, *options: str, status: int = 0) -> str:
        """The dialogue of swaks with that port."""
        server = ["--server", "127.0.0.1", "--port", str(self.router.ports[port])]
        said = run(
            [require("swaks"), *server, "--helo", "client.test", "--from", "a@sender.test", "--to", to, *options],
            status=status,
        )
        return said.decode()

    def arrived(self, mailbox: str, count: int = 1) -> list[bytes]:
        """The messages in a mailbox, once there are `count`."""
        folder = self.router.state / "maildir" / mailbox
        until(lambda: len(messages(folder)) >= count)
        found = messages(folder)
        self.assertEqual(len(found), count)
        return [one.raw for one in found]


class TestSwaks(MailCase):
    def test_a_message_in_clear(self) -> None:
        """Arrives with our Received, and the client as it was; its line in the access log says so."""
        self.swaks("smtp", "clear@example.test", "--header", "Subject: in clear")
        (raw,) = self.arrived("clear@example.test")
        self.assertIn(b"Subject: in clear", raw)
        self.assertRegex(
            raw, rb"(?s)Received: from client\.test .*\[127\.0\.0\.1\].*by mail\.example\.test .*with ESMTP"
        )

    def test_a_message_after_starttls(self) -> None:
        """With a certificate of the internal CA for the host name; Received says ESMTPS."""
        ca = str(self.router.state / "internal-ca" / "ca.pem")
        require_swaks_tls()
        said = self.swaks("smtp", "starttls@example.test", "--tls", "--tls-ca-path", ca, "--tls-verify")
        self.assertIn("TLS started", said)
        (raw,) = self.arrived("starttls@example.test")
        self.assertIn(b"with ESMTPS", raw)
        self.router.access(kind="smtp", tls_version="TLSv1.3", ended_by="client", reason="quit")

    def test_submission_needs_auth(self) -> None:
        """530 at MAIL on submission and smtps, inside TLS as well; check had warned that nobody has an account."""
        require_swaks_tls()
        for port, options in (("submission", []), ("submission", ["--tls"]), ("smtps", ["--tls-on-connect"])):
            said = self.swaks(port, "x@example.test", *options, status=23)
            self.assertIn("530 5.7.0", said, port)

    def test_nobody_relays(self) -> None:
        """The usual tricks of those who look for an open relay all get 550."""
        for to in (
            "victim@elsewhere.test",
            "victim%elsewhere.test@mail.example.test",
            '"victim@elsewhere.test"',
            "@example.test:victim@elsewhere.test",
            "victim@[127.0.0.1]",
            "elsewhere.test!victim",
            "victim@elsewhere.test@mail.example.test",
            '"victim@elsewhere.test"@[127.0.0.1]',
        ):
            with self.router.connect("smtp") as client:
                for words in (b"EHLO client.test\r\n", b"MAIL FROM:<>\r\n", b"RCPT TO:<%s>\r\n" % to.encode()):
                    client.recv(4000)
                    client.sendall(words)
                self.assertRegex(client.recv(4000), rb"^5(50|53|01|00) 5\.", to)

    def test_a_rejecting_rule_is_the_reply(self) -> None:
        """To that recipient only."""
        said = self.swaks("smtp", "nobody@example.test,somebody@example.test")
        self.assertIn("550 5.1.1 No such user", said)
        self.arrived("somebody@example.test")

    def test_a_large_message(self) -> None:
        """15 MB to two mailboxes, byte by byte; twice as much is more than allowed and refused."""
        body = self.router.base / "large"
        text = (b"x" * 76 + b"\r\n") * (15 * 1024 * 1024 // 78)
        body.write_bytes(b"Subject: large\r\n\r\n" + text)
        self.swaks("smtp", "large@example.test,larger@example.test", "--data", f"@{body}")
        for box in ("large@example.test", "larger@example.test"):
            (raw,) = self.arrived(box)
            self.assertTrue(raw.replace(b"\r\n", b"\n").rstrip().endswith(text.replace(b"\r\n", b"\n").rstrip()))
        body.write_bytes(b"Subject: too large\r\n\r\n" + text * 2)
        self.assertIn("552 5.3.4", self.swaks("smtp", "big@example.test", "--data", f"@{body}", status=26))

    def test_too_many_recipients_are_asked_to_come_again(self) -> None:
        """452 4.5.3 for each beyond the limit; the others get the message."""
        said = self.swaks("smtp", ",".join(f"much{number}@example.test" for number in range(205)))
        self.assertEqual(said.count("452 4.5.3"), 5)
        for number in range(200):
            self.arrived(f"much{number}@example.test")

    def test_the_true_client_stands_behind_haproxy(self) -> None:
        """PROXY in front of SMTP: Received and the access log name the client and not the proxy."""
        for header in ("send-proxy", "send-proxy-v2"):
            haproxy = HAProxy(self.router.ports["proxied"], header)
            self.addCleanup(haproxy.close)
            box = f"{header}@example.test"
            server = ["--server", "127.0.0.1", "--port", str(haproxy.port), "--local-interface", "127.0.0.8"]
            run([require("swaks"), *server, "--from", "a@sender.test", "--to", box])
            (raw,) = self.arrived(box)
            self.assertIn(b"[127.0.0.8]", raw)
        for line in self.router.access(2, route=f"smtp-{self.router.ports['proxied']}", reason="quit"):
            self.assertEqual((line["peer"][0], line["via"]), ("127.0.0.8", "127.0.0.1"))


class TestSmtpSource(MailCase):
    def source(self, to: str, count: int, options: Sequence[str] = ()) -> None:
        """Postfix's load maker: `count` messages over ten sessions."""
        argv = [require("smtp-source"), "-s", "10", "-m", str(count), "-l", "4096", "-f", "a@sender.test", "-t", to]
        run([*argv, *options, f"127.0.0.1:{self.router.ports['smtp']}"], seconds=60)

    def test_five_hundred_messages_reach_a_mailbox(self) -> None:
        """A connection each, and once more on connections that are used again."""
        self.source("load@example.test", 500)
        self.arrived("load@example.test", 500)
        self.source("load@example.test", 500, ["-d"])
        self.arrived("load@example.test", 1000)

    def test_five_hundred_messages_reach_the_next_server(self) -> None:
        """All that were acknowledged, and the queue is empty then."""
        self.source("load@sink.test", 500)
        until(lambda: len(self.sink.messages()) >= 500)
        until(lambda: not self.router.queue())
        self.assertEqual(len(self.sink.messages()), 500)


class TestForward(SynchronousTestCase):
    def test_mail_waits_for_a_server_that_is_down_and_prefers_the_first(self) -> None:
        """Failover to the second; when both are down it waits, is tried again, and goes out when one is back."""
        first, second = Reserved(), Reserved()
        self.addCleanup(first.close)
        self.addCleanup(second.close)
        router = Router(
            """
email:
  hostname: mail.example.test
  postmaster: a@example.test
  ports: [{port: $smtp, kind: smtp}]
  rules:
    - name: out
      match: {recipients: ["*@example.test"]}
      action: {type: forward, targets: [{host: 127.0.0.1, port: $first}, {host: 127.0.0.1, port: $second}]}
  queue: {retry: {base: 300ms, max: 500ms}}
""",
            ports=("smtp",),
            first=first.port,
            second=second.port,
            expected=["cannot|refused"],
        )
        self.addCleanup(router.close)

        def send(subject: str) -> None:
            server = ["--server", "127.0.0.1", "--port", str(router.ports["smtp"])]
            mail = ["--from", "a@sender.test", "--to", "b@example.test", "--header", f"Subject: {subject}"]
            run([require("swaks"), *server, *mail])

        send("both down")
        until(lambda: [row for row in router.queue() if row["attempts"] >= 2])
        (row,) = router.queue()
        self.assertIn("refused", row["reply"].lower())
        backup = SmtpSink(second.port)
        self.addCleanup(backup.close)
        until(lambda: len(backup.messages()) == 1)
        main = SmtpSink(first.port)
        self.addCleanup(main.close)
        until(lambda: not router.queue())
        send("first is back")
        until(lambda: [one for one in main.messages() + backup.messages() if b"first is back" in one])
        until(lambda: not router.queue())


class TestLimits(SynchronousTestCase):
    def open(self, text: str) -> Router:
        router = Router(text, ports=("smtp", "smtps"), expected=[WARNED])
        self.addCleanup(router.close)
        return router

    def test_connections_of_one_address_are_counted_until_they_end(self) -> None:
        """The edge counts, the mail process tells it of each end: the third is told to wait, and gets in afterwards."""
        router = self.open(LIMITED)
        for _ in range(3):
            clients = [router.connect("smtp") for _ in range(2)]
            for client in clients:
                self.assertTrue(client.recv(100).startswith(b"220 "))
            third = knock(router.ports["smtp"])
            self.assertTrue(third.data.startswith(b"421 4.7.0 mail.example.test "))
            with socket.create_connection(("127.0.0.1", router.ports["smtp"]), 30, ("127.0.0.5", 0)) as other:
                self.assertTrue(other.recv(100).startswith(b"220 "))
            clients[0].sendall(b"QUIT\r\n")
            clients[1].close()
            read_anyhow(clients[0])
            clients[0].close()
            until(lambda: router.counters("edge")["handed_over"] == 0)
        self.assertEqual(len(router.access(3, reason="max_connections_per_ip")), 3)

    def test_silent_clients_are_told_and_closed(self) -> None:
        """Nothing said after the greeting, a hello of TLS that never ends, a command without its end."""
        router = self.open(LIMITED.replace("greeting: 60s", "greeting: 1s"))
        with router.connect("smtp") as silent:
            self.assertRegex(read_anyhow(silent), rb"^220 .*\r\n421 4\.4\.2 ")
        with router.connect("smtps") as halfway:
            halfway.sendall(b"\x16\x03\x01\x02\x00\x01")
            self.assertEqual(read_anyhow(halfway), b"")
        router.write(LIMITED.replace("greeting: 60s", "command: 1s"))
        self.assertEqual(router.reload()["problems"], [])
        with router.connect("smtp") as slow:
            slow.recv(100)
            slow.sendall(b"EHLO client.test\r\n")
            slow.recv(1000)
            slow.sendall(b"MAIL FR")
            self.assertTrue(read_anyhow(slow).startswith(b"421 4.4.2 "))
        lines = router.access(3)
        self.assertEqual([line["ended_by"] for line in lines], ["router"] * 3)
        self.assertEqual({line["reason"] for line in lines}, {"greeting timeout", "command timeout"})

    def test_more_clients_than_descriptors_are_served_in_turn(self) -> None:
        """With 200 open files, 500 sessions: the mail process lives, nobody is lost, all get the greeting."""
        router = Router(
            LIMITED.replace("max_connections_per_ip: 2", "max_connections_per_ip: 5000"),
            ports=("smtp", "smtps"),
            descriptors=200,
            expected=["out of descriptors", WARNED],
        )
        self.addCleanup(router.close)
        pids = router.pids()
        clients = [router.connect("smtp") for _ in range(500)]
        greeted = told = 0
        for client in clients:
            said = client.recv(200)
            greeted += said.startswith(b"220 ")
            told += said.startswith(b"421 ")
            client.close()
        self.assertEqual(greeted + told, 500)
        self.assertGreater(greeted, 50)
        until(lambda: router.counters("edge")["handed_over"] == 0)
        with router.connect("smtp") as client:
            self.assertTrue(client.recv(200).startswith(b"220 "))
        self.assertEqual(router.pids(), pids)


LIMITED = """
email:
  hostname: mail.example.test
  postmaster: a@example.test
  ports: [{port: $smtp, kind: smtp}, {port: $smtps, kind: smtps}]
  timeouts: {greeting: 60s}
  security: {max_connections_per_ip: 2}
  rules:
    - {name: local, match: {recipients: ["*@example.test"]}, action: {type: deliver, maildir: "maildir/{recipient}"}}
"""

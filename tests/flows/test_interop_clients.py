"""swaks and msmtp as they come, in all their modes, against every kind of port of the whole service."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from itertools import product

from twisted.trial.unittest import SynchronousTestCase

from tests.support.mailboxes import messages
from tests.support.peers import require, require_swaks_tls
from tests.support.router import Router, until
from tests.support.shell import run
from tests.support.talk import ACCOUNT, HOSTNAME, PASSWORD, USER

TEXT = f"""
email:
  hostname: {HOSTNAME}
  postmaster: root@example.test
  max_message_size: 20MB
  max_recipients: 100
  ports: [{{port: $smtp, kind: smtp}}, {{port: $submission, kind: submission}}, {{port: $smtps, kind: smtps}}]
  auth: {{failures: {{max: 1000}}, users: [{ACCOUNT}]}}
  rules:
    - name: nobody
      match: {{recipients: ["nobody@example.test", "nobody2@example.test"]}}
      action: {{type: reject, code: 550, message: "5.1.1 No such user"}}
    - name: local
      match: {{recipients: ["*@example.test"]}}
      action: {{type: deliver, maildir: "maildir/{{recipient}}"}}
    - name: abroad
      match: {{recipients: ["*@else.test"], clients: may_relay}}
      action: {{type: deliver, maildir: "maildir/{{recipient}}"}}
"""
TLS = {"smtp": ["--tls"], "submission": ["--tls"], "smtps": ["--tls-on-connect"]}
EIGHT_BIT = "Grüße 日本 ".encode() + bytes(range(0x80, 0x100))


class ClientCase(SynchronousTestCase):
    router: Router

    @classmethod
    def setUpClass(cls) -> None:
        cls.router = Router(TEXT, ports=("smtp", "submission", "smtps"))
        cls.addClassCleanup(cls.router.close)

    def arrived(self, box: str, count: int = 1) -> list[bytes]:
        """All mail of a mailbox, once it is there."""
        folder = self.router.state / "maildir" / box
        until(lambda: len(messages(folder)) >= count)
        found = messages(folder)
        self.assertEqual(len(found), count, box)
        return [one.raw for one in found]

    def assertEmpty(self, box: str) -> None:
        self.assertEqual(messages(self.router.state / "maildir" / box), [])


class SwaksTests(ClientCase):
    def swaks(self, port: str, to: str, *options: str, status: int | None = 0) -> str:
        """The dialogue, with its certificate verified where there is TLS."""
        argv = [require_swaks_tls(), "--server", "127.0.0.1", "--port", str(self.router.ports[port])]
        argv += ["--helo", "client.test", "--from", USER, "--to", to, "--h-From", USER]
        if any("tls" in option for option in options):
            ca = str(self.router.state / "internal-ca" / "ca.pem")
            argv += ["--tls-verify", "--tls-ca-path", ca, "--tls-sni", HOSTNAME]
        done = subprocess.run([*argv, *options], capture_output=True, timeout=240, check=False)
        said = (done.stdout + done.stderr).decode("utf-8", "replace")
        if status is not None:
            self.assertEqual(done.returncode, status, said)
        return said

    def login(self, mechanism: str, password: str = PASSWORD) -> list[str]:
        return ["--auth", mechanism, "--auth-user", USER, "--auth-password", password]

    def test_every_mode_without_a_login(self) -> None:
        """HELO, EHLO, pipelined, STARTTLS asked for or welcome, TLS at once: arrives, and Received says how."""
        modes: tuple[tuple[str, Sequence[str], str], ...] = (
            ("helo", ["--protocol", "SMTP"], "SMTP"),
            ("ehlo", ["--protocol", "ESMTP"], "ESMTP"),
            ("pipelined", ["--pipeline"], "ESMTP"),
            ("starttls", ["--tls"], "ESMTPS"),
            ("protocol", ["--protocol", "ESMTPS"], "ESMTPS"),
            ("welcome", ["--tls-optional"], "ESMTPS"),
            ("tls-pipelined", ["--tls", "--pipeline"], "ESMTPS"),
            ("tlsv12", ["--tls", "--tls-protocol", "tlsv1_2"], "ESMTPS"),
        )
        for name, options, protocol in modes:
            said = self.swaks("smtp", f"{name}@example.test", *options)
            self.assertNotIn("<** ", said, name)
            self.assertNotIn("<~* ", said, name)
            (raw,) = self.arrived(f"{name}@example.test")
            self.assertRegex(raw, rf"(?s)by mail\.example\.test .* with {protocol} id ".encode(), name)

    def test_every_way_to_log_in(self) -> None:
        """PLAIN and LOGIN, on each kind of port, pipelined too; it relays then, and Received says so."""
        ways = list(product(("smtp", "submission", "smtps"), ("PLAIN", "LOGIN"), ([], ["--pipeline"])))
        for number, (port, mechanism, more) in enumerate(ways):
            box = f"login{number}@else.test"
            self.swaks(port, box, *TLS[port], *self.login(mechanism), *more)
            (raw,) = self.arrived(box)
            self.assertIn(b" with ESMTPSA id ", raw)
        said = self.swaks(
            "submission", "any@else.test", "--tls", "--auth-optional", "--auth-user", USER, "-ap", PASSWORD
        )
        self.assertRegex(said, r"~> AUTH (PLAIN|LOGIN)")

    def test_what_is_no_login(self) -> None:
        """Wrong passwords and names, mechanisms that are not offered, in clear: swaks gives up, and nothing is sent."""
        for port, mechanism in product(TLS, ("PLAIN", "LOGIN")):
            said = self.swaks(port, "never@else.test", *TLS[port], *self.login(mechanism, "wrong"), status=28)
            self.assertIn("535 5.7.8", said)
        wrong_name = ["--auth", "PLAIN", "--auth-user", "nobody@sender.test", "--auth-password", PASSWORD]
        self.assertIn("535 5.7.8", self.swaks("smtps", "never@else.test", *TLS["smtps"], *wrong_name, status=28))
        for mechanism in ("CRAM-MD5", "DIGEST-MD5", "NTLM"):
            self.swaks("submission", "never@else.test", "--tls", *self.login(mechanism), status=None)
        for port in ("smtp", "submission"):
            said = self.swaks(port, "never@else.test", *self.login("PLAIN"), status=28)
            self.assertNotIn("> AUTH", said)
        for port in ("submission", "smtps"):
            self.assertIn("530 5.7.0", self.swaks(port, "never@else.test", *TLS[port], status=23))
        self.assertEmpty("never@else.test")

    def test_nobody_is_who_xclient_or_proxy_says(self) -> None:
        """XCLIENT is not offered; a PROXY line is no greeting."""
        self.swaks("smtp", "xclient@example.test", "--xclient-addr", "192.0.2.1", status=33)
        self.swaks("smtp", "optional@example.test", "--xclient-addr", "192.0.2.1", "--xclient-optional")
        (raw,) = self.arrived("optional@example.test")
        self.assertIn(b"[127.0.0.1]", raw)
        self.assertNotIn(b"192.0.2.1", raw)
        proxy = ["--proxy-version", "1", "--proxy-family", "TCP4", "--proxy-source", "192.0.2.1", "--proxy-source-port"]
        proxy += ["4711", "--proxy-dest", "127.0.0.1", "--proxy-dest-port", "25"]
        self.swaks("smtp", "proxy@example.test", *proxy, status=None)
        self.assertNotIn(
            b"192.0.2.1", b"".join(one.raw for one in messages(self.router.state / "maildir" / "proxy@example.test"))
        )

    def test_many_recipients(self) -> None:
        """Each of them has it; who is refused stops nobody else; more than the limit are told to come again."""
        for name, options in (("single", []), ("pipe", ["--pipeline"]), ("tls", ["--tls", "--pipeline"])):
            boxes = [f"{name}{number}@example.test" for number in range(99)]
            said = self.swaks(
                "smtp", ",".join([*boxes[:50], "nobody@example.test", *boxes[50:], "one@more.test"]), *options
            )
            self.assertEqual(said.count("550 5.1.1"), 1)
            self.assertEqual(said.count("550 5.7.1"), 1)
            for box in boxes:
                self.arrived(box)
        said = self.swaks("smtp", ",".join(f"many{number}@example.test" for number in range(105)), "--pipeline")
        self.assertEqual(said.count("452 4.5.3"), 5)
        self.swaks("smtp", "nobody@example.test,nobody2@example.test", "--pipeline", status=24)

    def test_large_messages_and_eight_bits(self) -> None:
        """18 MB and every octet above 127, in clear and in TLS, arrive as they were; 21 MB are refused."""
        body = self.router.base / "body"
        line = EIGHT_BIT + b"x" * 700 + b"\r\n.dot\r\n..\r\n"
        text = line * (18_000_000 // len(line))
        for port, options in (("smtp", ["--pipeline"]), ("smtps", [*TLS["smtps"], *self.login("PLAIN")])):
            box = f"large-{port}@example.test"
            body.write_bytes(f"From: {USER}\r\nTo: {box}\r\nSubject: large\r\n\r\n".encode() + text)
            self.swaks(port, box, "--data", f"@{body}", *options)
            (raw,) = self.arrived(box)
            self.assertTrue(raw.partition(b"\n\n")[2].rstrip() == text.replace(b"\r\n", b"\n").rstrip(), port)
        body.write_bytes(f"From: {USER}\r\n\r\n".encode() + text + line * (3_000_000 // len(line)))
        self.assertIn("552 5.3.4", self.swaks("smtp", "huge@example.test", "--data", f"@{body}", status=26))
        self.assertEmpty("huge@example.test")

    def test_clients_that_leave(self) -> None:
        """QUIT or a cut connection behind each verb: nothing is sent, nothing stays behind."""
        verbs = ("CONNECT", "FIRST-HELO", "MAIL", "RCPT", "DATA")
        for way, verb in product(("--quit-after", "--drop-after", "--drop-after-send"), verbs):
            if (way, verb) != ("--drop-after-send", "CONNECT"):
                self.swaks("smtp", "left@example.test", way, verb, status=None)
        for way in ("--quit-after", "--drop-after", "--drop-after-send"):
            for verb in ("TLS", "HELO", "AUTH"):
                if (way, verb) != ("--drop-after-send", "TLS"):
                    self.swaks("submission", "left@example.test", "--tls", *self.login("PLAIN"), way, verb, status=None)
        until(lambda: self.router.counters("mail")["connections"] == 0)
        self.assertEmpty("left@example.test")

    def test_lmtp_and_nonsense_are_refused(self) -> None:
        """LHLO is no command of ours, nor a protocol of the web."""
        self.assertIn("500 5.5.2", self.swaks("smtp", "lmtp@example.test", "--protocol", "LMTP", status=None))
        self.assertEmpty("lmtp@example.test")


class MsmtpTests(ClientCase):
    def msmtp(self, port: str, to: Sequence[str], *options: str, text: bytes, status: int = 0) -> None:
        """One run as sendmail would be called."""
        argv = [require("msmtp"), "--host=127.0.0.1", f"--port={self.router.ports[port]}", "--domain=client.test"]
        argv += [f"--from={USER}", "--timeout=60", *options, "--", *to]
        run(argv, say=text, status=status)

    def test_msmtp_submits(self) -> None:
        """Certificate verified, each mechanism, on each port; octets above 127, dots, several recipients."""
        ca = self.router.state / "internal-ca" / "ca.pem"
        text = f"From: {USER}\nSubject: x\n\n".encode() + EIGHT_BIT + b"\n.\n..\n.x\n\n"
        for port, mechanism in product(TLS, ("plain", "login")):
            boxes = [f"msmtp-{port}-{mechanism}-{number}@else.test" for number in range(3)]
            tls = ["--tls=on", f"--tls-starttls={'off' if port == 'smtps' else 'on'}", f"--tls-trust-file={ca}"]
            tls.append(f"--tls-host-override={HOSTNAME}")
            login = [f"--auth={mechanism}", f"--user={USER}"]
            self.msmtp(port, boxes, *tls, *login, f"--passwordeval=echo {PASSWORD}", text=text)
            for box in boxes:
                (raw,) = self.arrived(box)
                self.assertTrue(raw.endswith(text.partition(b"\n\n")[2]), raw[-600:])
            for wrong in ([*login, "--passwordeval=echo wrong"], [*login[:1], "--user=x", "--passwordeval=echo x"]):
                self.msmtp(port, ["never@else.test"], *tls, *wrong, text=text, status=77)
        self.assertEmpty("never@else.test")

    def test_msmtp_as_a_stranger(self) -> None:
        """In clear and by TLS to port 25: to ours it delivers, elsewhere it is refused, as is one of several."""
        ca = self.router.state / "internal-ca" / "ca.pem"
        text = b"Subject: x\n\nx\n"
        for name, tls in (("clear", ["--tls=off"]), ("tls", ["--tls=on", f"--tls-trust-file={ca}"])):
            if name == "tls":
                tls.append(f"--tls-host-override={HOSTNAME}")
            self.msmtp("smtp", [f"msmtp-{name}@example.test"], *tls, text=text)
            self.arrived(f"msmtp-{name}@example.test")
            self.msmtp("smtp", ["never@else.test"], *tls, text=text, status=65)
            self.msmtp("smtp", ["never2@example.test", "nobody@example.test"], *tls, text=text, status=65)
        self.assertEmpty("never@else.test")

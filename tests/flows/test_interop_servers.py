"""Mail to and from the other mail servers that Debian has, through the whole service."""

from __future__ import annotations

import re
import smtplib
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from dcrouter.wire.scram import Verifier
from tests.mail.server.accounts import HASHES
from tests.support.mailboxes import messages
from tests.support.mailers import Exim, Kind, Next, OpenSmtpd, Postfix
from tests.support.ports import Reserved
from tests.support.router import Router, until

TEXT = """
email:
  hostname: mail.example.test
  postmaster: root@example.test
  ports: [{port: $smtp, kind: smtp}, {port: $submission, kind: submission}, {port: $smtps, kind: smtps}]
  auth:
    methods: [$methods]
    users: [{name: router@example.test, password_hash: "$hash", scram: "$scram", may_send_as: ["*@sender.test"]}]
  rules:
    - {name: local, match: {recipients: ["*@example.test"]}, action: {type: deliver, maildir: "maildir/{recipient}"}}
    - name: required
      match: {recipients: ["*@inbox.test"], senders: ["required@sender.test"]}
      action: {type: forward, targets: [{host: localhost, port: $target}], tls: required, ca: $base/ca.pem}
    - name: opportunistic
      match: {recipients: ["*@inbox.test"], senders: ["opportunistic@sender.test"]}
      action: {type: forward, targets: [{host: localhost, port: $target}], tls: opportunistic}
    - name: none
      match: {recipients: ["*@inbox.test"], senders: ["none@sender.test"]}
      action: {type: forward, targets: [{host: localhost, port: $target}], tls: none}
  queue: {retry: {base: 300ms, max: 1s}}
"""
BODY = (
    "From: a@sender.test\r\nTo: somebody@elsewhere.test\r\nSubject: interop\r\nDate: Sat, 21 Nov 2026 12:00:00 GMT\r\n"
    "Message-ID: <interop@sender.test>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
    "Content-Transfer-Encoding: 8bit\r\n\r\nGr\u00fc\u00dfe\r\n.\r\n..\r\n.dot\r\n" + "x" * 990 + "\r\n\r\nend\r\n"
).encode()
LARGE = BODY + b"..large\r\n" * 200_000
"""A spool file here, and more than one write of a socket."""


def text_of(raw: bytes) -> bytes:
    """What follows the header, with the line ends of SMTP."""
    return re.sub(rb"\r?\n", b"\r\n", raw).partition(b"\r\n\r\n")[2]


class ServerCase:
    """One other server: what it sends us, and what it takes from us."""

    server: Kind
    methods = "PLAIN, LOGIN"
    router: Router
    place: Reserved

    @classmethod
    def setUpClass(cls) -> None:
        """The service; `place` is where the server will be."""
        cls.place = Reserved()
        cls.addClassCleanup(cls.place.close)  # type: ignore[attr-defined]
        ports = ("smtp", "submission", "smtps")
        values: dict[str, Any] = {
            "hash": HASHES["secret"],
            "scram": Verifier.make("secret", iterations=4096),
            "methods": cls.methods,
        }
        cls.router = Router(TEXT, ports=ports, target=cls.place.port, start=False, **values)
        cls.addClassCleanup(cls.router.close)  # type: ignore[attr-defined]
        cls.server.certify(cls.router.base)
        cls.router.start()

    def open(self, port: str) -> None:
        """The server, which sends to our port of that name: by TLS and logged in, but to `smtp`."""
        if port == "smtp":
            to = Next(port=self.router.ports[port])
        else:
            to = Next(
                port=self.router.ports[port],
                user="router@example.test",
                password="secret",
                ca=self.router.state / "internal-ca" / "ca.pem",
                implicit=port == "smtps",
            )
        self.peer = self.server(to, self.place.port, self.router.base)
        self.addCleanup(self.peer.close)  # type: ignore[attr-defined]

    def send(self, port: int, *recipients: str, sender: str = "a@sender.test", body: bytes = BODY) -> None:
        """Everybody must be taken."""
        with smtplib.SMTP("127.0.0.1", port, timeout=240) as client:
            assert client.sendmail(sender, recipients, body, ["BODY=8BITMIME"]) == {}

    def arrived(self, mailbox: str, *, told: bool = False) -> bytes:
        """The one message in a mailbox of ours; `told`: and the server knows it."""
        folder = self.router.state / "maildir" / mailbox
        try:
            until(lambda: messages(folder))
            if told:
                until(lambda: re.search(rf"{re.escape(mailbox)}.*Queued as", self.peer.words()))
            (found,) = messages(folder)
        except (AssertionError, ValueError) as error:
            raise AssertionError(self.peer.words()) from error
        return found.raw

    def test_it_logs_in_and_sends_by_starttls(self) -> None:
        """To the submission port, whose certificate it verifies; small and large, all arrives once, as it was."""
        self.open("submission")
        self.sends("ESMTPSA")

    def test_it_logs_in_and_sends_by_implicit_tls(self) -> None:
        """To port 465, likewise."""
        self.open("smtps")
        self.sends("ESMTPSA")

    def test_it_sends_in_clear(self) -> None:
        """As a stranger, to the port of servers."""
        self.open("smtp")
        self.sends("ESMTP")

    def sends(self, protocol: str) -> None:
        for name, body in (("small", BODY), ("large", LARGE)):
            boxes = [f"{self._testMethodName}-{name}-{number}@example.test" for number in range(2)]  # type: ignore[attr-defined]
            self.send(self.peer.port, *boxes, body=body)
            for box in boxes:
                raw = self.arrived(box, told=True)
                assert text_of(raw) == text_of(body), raw[:2000]
                assert re.search(rf"(?s)by mail\.example\.test .*with {protocol} id ".encode(), raw), raw[:2000]

    def test_it_takes_mail_by_tls_and_refuses_as_it_likes(self) -> None:
        """With its certificate verified: whole to those it takes, at once back where it refuses for good, and again
        where it says later.
        """
        self.open("smtp")
        if not self.peer.speaks_tls():
            self.falls_back()
            return
        recipients = ["joe@inbox.test", "ann@inbox.test", "nobody@inbox.test"]
        if self.server.comes_again:
            recipients.append("later@inbox.test")
        self.send(self.router.ports["smtp"], *recipients, sender="required@sender.test")
        self.took("required", "joe", "ann", tls="TLSv1.3")
        notice = self.arrived("root@example.test")
        assert b"Final-Recipient: rfc822; nobody@inbox.test" in notice, notice
        assert b"later@" not in notice, notice
        if self.server.comes_again:
            until(lambda: [row for row in self.router.queue() if row["attempts"] >= 3])
            (row,) = self.router.queue()
            assert (row["recipient"], row["reply"][:3]) == ("later@inbox.test", "450"), row
        else:
            until(lambda: not self.router.queue())

    def falls_back(self) -> None:
        """It offers STARTTLS and cannot do it: the mail goes in clear where TLS is only welcome, and where it is
        required it waits.
        """
        port = self.router.ports["smtp"]
        self.send(port, "ann@inbox.test", sender="required@sender.test")
        until(lambda: [row for row in self.router.queue() if row["attempts"] >= 2])
        (row,) = self.router.queue()
        assert row["reply"].startswith("4.7.5 "), row
        self.send(port, "joe@inbox.test", sender="opportunistic@sender.test")
        self.took("opportunistic", "joe", tls=None)
        assert not self.peer.mails("ann")

    def test_it_takes_mail_in_clear(self) -> None:
        """Small and large, whole to those it takes; who is refused comes back."""
        self.open("smtp")
        self.send(self.router.ports["smtp"], "joe@inbox.test", "ann@inbox.test", sender="none@sender.test")
        self.took("none", "joe", "ann", tls=None)
        self.send(self.router.ports["smtp"], "root@inbox.test", sender="none@sender.test", body=LARGE)
        until(lambda: self.peer.mails("root"))
        (raw,) = self.peer.mails("root")
        assert text_of(raw) == text_of(LARGE)

    def took(self, rule: str, *boxes: str, tls: str | None) -> None:
        """The message is there, once, and the access log says how it went."""
        for who in boxes:
            until(lambda who=who: self.peer.mails(who))
            (raw,) = self.peer.mails(who)
            assert text_of(raw) == text_of(BODY), raw
        lines = self.router.access(len(boxes), rule=rule, outcome="delivered")
        assert [line.get("tls", "none")[:7] for line in lines] == [tls or "none"] * len(boxes), lines


class PostfixTests(ServerCase, SynchronousTestCase):
    """Its library (Cyrus SASL) knows SCRAM."""

    server = Postfix
    methods = "SCRAM-SHA-256"


class EximTests(ServerCase, SynchronousTestCase):
    server = Exim


class OpenSmtpdTests(ServerCase, SynchronousTestCase):
    server = OpenSmtpd

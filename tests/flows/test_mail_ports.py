"""`email.ports` as a whole: numbers and mappings, each key of them seen from outside."""

from __future__ import annotations

import contextlib
import socket

from twisted.trial.unittest import SynchronousTestCase

from tests.support.router import Router, until
from tests.support.talk import ACCOUNT, HOSTNAME, Door, Talk, open_door

ELSEWHERE = "127.0.0.5"
TEXT = f"""
email:
  hostname: {HOSTNAME}
  postmaster: root@ours.test
  ports:
    - $smtp
    - {{port: $few, max_connections: 2}}
    - {{port: $submission, kind: submission, listen: [{ELSEWHERE}]}}
    - {{port: $smtps, kind: smtps}}
  auth: {{users: [{ACCOUNT}]}}
  rules: [{{name: ours, match: {{recipients: ["*@ours.test"]}}, action: {{type: deliver, maildir: m}}}}]
"""


class PortsTests(SynchronousTestCase):
    router: Router

    @classmethod
    def setUpClass(cls) -> None:
        cls.router = Router(TEXT, ports=("smtp", "few", "submission", "smtps"))
        cls.addClassCleanup(cls.router.close)

    def test_a_number_speaks_smtp(self) -> None:
        """As does a mapping without `kind`: strangers may send, STARTTLS is offered."""
        for name in ("smtp", "few"):
            with Talk(self.router.ports[name]) as talk:
                talk.reply()
                self.assertIn(b"STARTTLS", talk.say("EHLO a.test"))
                self.assertEqual(talk.say("MAIL FROM:<a@b.test>")[:4], b"250 ")

    def test_listen_is_where_it_is_bound(self) -> None:
        """There, and nowhere else; `kind` is what it speaks."""
        port = self.router.ports["submission"]
        self.assertRaises(ConnectionRefusedError, Talk, port)
        listening = [(one["address"], one["port"]) for one in (self.router.status() or {})["listeners"]]
        self.assertIn((ELSEWHERE, port), listening)
        with contextlib.closing(_talk(ELSEWHERE, port)) as talk:
            self.assertEqual(talk.recv(4), b"220 ")
            talk.sendall(b"EHLO a.test\r\n")
            said = b""
            while b"250 " not in said:
                said += talk.recv(4096)
            talk.sendall(b"MAIL FROM:<a@b.test>\r\n")
            self.assertEqual(talk.recv(9), b"530 5.7.0")
        with open_door(self.router, Door(kind="smtps", tls=True, account=True)) as tls:
            self.assertEqual(tls.say("NOOP")[:3], b"250")

    def test_max_connections_is_of_the_port(self) -> None:
        """Two who have said EHLO keep the third out, with 421; another port takes it, this one when one has gone."""
        with contextlib.ExitStack() as stack:
            inside = [stack.enter_context(Talk(self.router.ports["few"])) for _ in range(2)]
            for talk in inside:
                talk.reply()
                self.assertEqual(talk.say("EHLO a.test")[:4], b"250-")
            with Talk(self.router.ports["few"]) as third:
                self.assertEqual(third.rest()[0][:9], b"421 4.3.2")
            with Talk(self.router.ports["smtp"]) as other:
                self.assertEqual(other.reply()[:4], b"220 ")
            inside[0].say("QUIT")

            def comes_in() -> bool:
                with Talk(self.router.ports["few"]) as talk:
                    return talk.reply()[:4] == b"220 "

            until(comes_in)
        route = f"smtp-{self.router.ports['few']}"
        turned_away = {"reason": "no free slot", "route": route}.items()
        until(lambda: any(turned_away <= line.items() for line in self.router.access_lines()))

    def test_it_may_be_otherwise_after_a_reload(self) -> None:
        """Fewer, or more, or another kind: for those who come."""
        self.addCleanup(self.router.reload)
        self.addCleanup(self.router.write, TEXT)
        self.router.write(TEXT.replace("max_connections: 2", "max_connections: 1"))
        self.assertEqual(self.router.reload()["problems"], [])
        with Talk(self.router.ports["few"]) as first, Talk(self.router.ports["few"]) as second:
            self.assertEqual(first.rest()[-1][:9], b"421 4.3.2")
            self.assertEqual(second.reply()[:4], b"220 ")


def _talk(host: str, port: int) -> socket.socket:
    return socket.create_connection((host, port), 30)


class FewDescriptorsTests(SynchronousTestCase):
    def test_slots_run_out_before_descriptors(self) -> None:
        """With 512 descriptors and no limit in the file: twice as many clients as there are slots, silent or with
        nonsense, from addresses of their own. Whoever says EHLO is served at once, and nothing is in the log.
        """
        text = TEXT.replace(", max_connections: 2", "")
        router = Router(text, ports=("smtp", "few", "submission", "smtps"), descriptors=512)
        self.addCleanup(router.close)
        slots = router.counters("mail")["slots"]
        self.assertLess(slots, 512)
        with contextlib.ExitStack() as stack:
            served = 0
            for number in range(2 * slots):
                silent = stack.enter_context(
                    Talk(router.ports["few"], source=f"127.1.{number // 200}.{number % 200 + 1}")
                )
                if number % 4 == 3:
                    silent.send(b"\x16\x03 what?\r\n")
                if number % 20 == 19:
                    honest = stack.enter_context(Talk(router.ports["smtp"]))
                    self.assertEqual(honest.reply()[:4], b"220 ")
                    self.assertEqual(honest.say("EHLO a.test")[:4], b"250-")
                    honest.begin("b@ours.test")
                    self.assertEqual(honest.say("Subject: x\r\n\r\ny\r\n.")[:4], b"250 ")
                    served += 1
            self.assertEqual(served, 2 * slots // 20)
            counted = router.counters("mail")
            self.assertGreater(counted["shed"], slots // 4)
            self.assertEqual(counted["turned_away"], 0)
            until(lambda: router.counters("mail")["connections"] <= slots)  # those that were shed end a moment later

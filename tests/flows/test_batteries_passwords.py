"""Wrong passwords by the thousand: what they cost, whom they ban, and that nobody else notices."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from dcrouter.admin.client import ask
from dcrouter.mail.server.passwords import make_hash
from tests.support.mailboxes import messages
from tests.support.router import Router, until
from tests.support.talk import ACCOUNT, HOSTNAME, PASSWORD, USER, Door, Talk, open_door, plain

TEXT = f"""
email:
  hostname: {HOSTNAME}
  postmaster: root@example.test
  ports: [{{port: $smtp, kind: smtp}}, {{port: $submission, kind: submission}}, {{port: $smtps, kind: smtps}}]
  auth: {{users: [@ACCOUNTS@]}}
  rules:
    - name: local
      match: {{recipients: ["*@example.test"]}}
      action: {{type: deliver, maildir: "maildir/{{recipient}}"}}
  security: {{max_connections_per_ip: 1000}}
"""
SMTP = Door(kind="smtp")
SUBMISSION = Door(kind="submission", tls=True, account=True)
SMTPS = Door(kind="smtps", tls=True, account=True)
CAROL = "carol@sender.test"
MB = 1 << 20


def peak(pid: int) -> int:
    """The most memory that a process has had (VmHWM), in bytes."""
    (line,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def forget_peak(pid: int) -> int:
    """From now on (proc(5), clear_refs); gives what it has now."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    return peak(pid)


class PasswordCase(SynchronousTestCase):
    accounts: str
    router: Router
    pids: dict[str, int]

    @classmethod
    def setUpClass(cls) -> None:
        cls.router = Router(
            TEXT.replace("@ACCOUNTS@", cls.accounts),
            ports=("smtp", "submission", "smtps"),
            expected=["is banned for 3600 s: 10 failed"],
        )
        cls.addClassCleanup(cls.router.close)
        cls.pids = cls.router.pids()

    def guess(self, door: Door, source: str, guesses: Iterable[str]) -> list[bytes]:
        """The codes of the replies to these AUTH lines on one connection, as far as it lasts."""
        with open_door(self.router, door, source=source, login=False) as talk:
            codes = []
            for line in guesses:
                codes.append(talk.say(line)[:3])
                if codes[-1] != b"535":
                    break
            return codes

    def assertServed(self, source: str) -> None:
        """Somebody at that address logs in on each door of submission, and mail flows; nothing was restarted."""
        for door in (SUBMISSION, SMTPS):
            open_door(self.router, door, source=source).__exit__()
        box = f"{source}@example.test"
        with open_door(self.router, SMTP, source=source) as talk:
            talk.begin(box)
            talk.send(b"Subject: x\r\n\r\nx\r\n.\r\n")
            self.assertEqual(talk.reply()[:4], b"250 ")
        until(lambda: messages(self.router.state / "maildir" / box))
        self.assertEqual(self.router.pids(), self.pids)


class PasswordTests(PasswordCase):
    accounts = f"{ACCOUNT}, {ACCOUNT.replace(USER, CAROL)}"

    def counted(self) -> tuple[int, int]:
        """Failed logins so far, and bans now."""
        status = self.router.counters("mail")
        return status["failed_logins"], status["banned"]

    def test_thousands_of_names_that_nobody_has(self) -> None:
        """From hundreds of addresses, names of 9000 octets: each is 535 and remembered in next to no memory; others log
        in meanwhile.
        """
        failed, banned = self.counted()

        def attack(number: int) -> list[bytes]:
            guesses = (plain(f"{number}.{at}".ljust(9000, "x"), "guess") for at in range(3))
            door = (SUBMISSION, SMTPS)[number % 2]
            return self.guess(door, f"127.1.{number // 250}.{number % 250 + 1}", guesses)

        with ThreadPoolExecutor(16) as pool:
            codes = Counter(code for one in pool.map(attack, range(300)) for code in one)  # all that is made once
            before = forget_peak(self.router.pids()["mail"])
            attacks = [pool.submit(attack, number) for number in range(300, 1300)]
            self.assertServed("127.0.0.8")
            codes.update(code for one in attacks for code in one.result())
        self.assertEqual(codes, {b"535": 3900})
        self.assertEqual(self.counted(), (failed + 3900, banned))
        self.assertServed("127.0.0.9")
        self.assertLess(peak(self.router.pids()["mail"]) - before, 20 * MB)

    def test_one_address_that_tries_on_and_on(self) -> None:
        """Ten guesses are checked, the rest is turned away at the door: 421, on 465 an alert, 454 for AUTH on port 25,
        where its mail flows on. Neither its neighbour nor the account notices, nor a connection that was logged in. The
        operator can lift the ban.
        """
        failed, banned = self.counted()
        evil, codes = "127.2.0.1", Counter[bytes]()
        with open_door(self.router, SUBMISSION, source=evil) as before:
            for number in range(4):
                codes.update(self.guess(SUBMISSION, evil, (plain(f"{number}.{at}") for at in range(3))))
            self.assertEqual(codes, {b"535": 9, b"421": 1})
            for _ in range(500):
                with Talk(self.router.ports["submission"], source=evil) as talk:
                    self.assertEqual([one[:10] for one in talk.rest()], [b"421 4.7.0 "])
                with Talk(self.router.ports["smtps"], source=evil) as talk:
                    self.assertEqual(talk.rest(), [b"\x15\x03\x03\x00\x02\x02\x31"])
            before.begin("box@example.test")
            before.send(f"From: {USER}\r\n\r\nx\r\n.\r\n".encode())
            self.assertEqual(before.reply()[:4], b"250 ")
        smtp = Door(kind="smtp", tls=True)
        for line in (plain(), plain(password="guess")):
            self.assertEqual(self.guess(smtp, evil, [line]), [b"454"])
        with open_door(self.router, SMTP, source=evil) as talk:
            talk.begin("box@example.test")
        self.assertEqual(self.counted(), (failed + 12, banned + 1))
        self.assertServed("127.2.0.2")
        found = ask(self.router.state / "admin.sock", "GET", "/bans")["bans"]
        self.assertIn(evil, [one["address"] for one in found])
        self.assertEqual(ask(self.router.state / "admin.sock", "DELETE", f"/bans/{evil}"), {"lifted": 1})
        self.assertServed(evil)

    def test_one_account_that_all_the_world_attacks(self) -> None:
        """From many addresses at once: the answers are slow, and the right password opens from any address, whether
        it was used from there before or not. Nobody is banned, and other accounts do not notice.
        """
        _, banned = self.counted()
        right = [plain(CAROL)]
        self.assertEqual(self.guess(SUBMISSION, "127.4.0.1", right), [b"235"])
        with ExitStack() as stack:
            crowd = [
                stack.enter_context(open_door(self.router, SMTPS, source=f"127.3.0.{at + 1}", login=False))
                for at in range(150)
            ]
            for talk in crowd:
                talk.send(plain(CAROL, "guess").encode() + b"\r\n")
            for source in ("127.4.0.1", "127.4.0.2"):
                self.assertEqual(self.guess(SUBMISSION, source, right), [b"235"])
                self.assertServed(source)
            codes = Counter(talk.reply()[:3] for talk in crowd)
        self.assertEqual(codes.keys() - {b"535", b"454"}, set(), codes)
        self.assertGreater(codes[b"535"], 50)
        self.assertEqual(self.counted()[1], banned)


class CostTests(PasswordCase):
    accounts = f'{{name: {USER}, password_hash: "{make_hash(PASSWORD)}"}}'.replace("$", "$$")
    """As `dcrouter passwd` makes them: 19 MiB to check one."""

    def test_hashes_are_computed_as_many_at_once_as_there_are_cores(self) -> None:
        """Sixty guesses in the same moment, of 19 MiB each, take the memory of a few."""
        self.guess(SUBMISSION, "127.5.9.9", [plain("nobody", "guess")])
        pid = self.router.pids()["mail"]
        with ExitStack() as stack:
            crowd = [
                stack.enter_context(open_door(self.router, SMTPS, source=f"127.5.0.{at + 1}", login=False))
                for at in range(60)
            ]
            before = forget_peak(pid)
            for at, talk in enumerate(crowd):
                talk.send(plain(f"nobody{at}", "guess").encode() + b"\r\n")
            self.assertServed("127.0.0.7")
            codes = Counter(talk.reply()[:3] for talk in crowd)
        self.assertEqual(codes, {b"535": 60})
        self.assertLess(peak(pid) - before, (len(os.sched_getaffinity(0)) + 1) * 20 * MB)

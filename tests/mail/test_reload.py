"""Another configuration for a mail half at work."""

from __future__ import annotations

import socket
from io import BufferedRWPair
from typing import Any

from attrs import evolve
from twisted.trial.unittest import TestCase

from dcrouter.config.accounts import Auth, User
from dcrouter.config.queue import Queue
from dcrouter.config.rates import Rate
from dcrouter.config.rules import Reject, Rule, RuleLimits
from tests.mail.house import LOCAL, House, forward, in_thread, send
from tests.mail.server.accounts import HASHES
from tests.support.facts import until
from tests.support.ports import reserved


def reload(house: House, *rules: Rule, **email: Any) -> None:
    """The house goes on with other rules, and other keys of email."""
    changed = evolve(house.email, rules=rules, **email)
    house.mta.reload(house.mta.succession(evolve(house.config, email=changed), {}), house.chooser, house.heard)
    house.email = changed


def says(talk: BufferedRWPair, line: str) -> str:
    talk.write(line.encode() + b"\r\n")
    talk.flush()
    while (reply := talk.readline())[3:4] == b"-":
        pass
    return reply.decode()[:3]


class RulesTests(TestCase):
    async def test_a_session_goes_on_with_the_new_rules(self) -> None:
        """In the middle of a transaction: who was taken stays so, the next recipient meets what is in force."""
        house = House(self)
        port = house.listen()

        def first(talk: BufferedRWPair) -> list[str]:
            talk.readline()
            return [says(talk, line) for line in ("HELO c", "MAIL FROM:<a@x.test>", "RCPT TO:<b@local.test>")]

        def second(talk: BufferedRWPair) -> list[str]:
            replies = [says(talk, f"RCPT TO:<{one}>") for one in ("b@other.test", "c@local.test")]
            return [*replies, says(talk, "DATA"), says(talk, "Subject: x\r\n\r\nx\r\n.")]

        client = socket.create_connection(("127.0.0.1", port), 30)
        self.addCleanup(client.close)
        talk = client.makefile("rwb")
        self.addCleanup(talk.close)
        self.assertEqual(await in_thread(first, talk), ["250", "250", "250"])
        other = evolve(LOCAL, name="other", match=evolve(LOCAL.match, recipients=("*@other.test",)))
        reload(house, evolve(LOCAL, match=evolve(LOCAL.match, recipients=("b@local.test",))), other)
        self.assertEqual(await in_thread(second, talk), ["250", "550", "354", "250"])
        await until(lambda: house.mails("b@local.test") and house.mails("b@other.test"))
        await until(lambda: house.mta.status()["queued"] == 0)
        self.assertEqual(house.mta.status()["rules"], {"local": {"delivered": 1}, "other": {"delivered": 1}})
        talk.close()
        client.close()
        await until(lambda: house.mta.status()["ends"])
        self.assertEqual(list(house.mta.status()["ends"].values()), [{"client:smtp": 1}])

    async def test_mail_that_waits_goes_by_the_rule_as_it_is(self) -> None:
        """Its target is another one now: the next attempt goes there, and no message is lost on the way."""
        house = House(self, forward(reserved(self)))
        port = house.listen()
        await in_thread(send, port, "b@example.test")
        await until(lambda: house.queue().addCallback(lambda found: [one["state"] for one in found] == ["deferred"]))
        there = evolve(LOCAL, name="out", match=evolve(LOCAL.match, recipients=("*@example.test",)))
        reload(house, there)
        await house.mta.queue_ask({"do": "retry", "all": True})
        await until(lambda: house.mails("b@example.test"))
        await until(lambda: house.mta.status()["queued"] == 0)

    async def test_mail_that_waits_meets_a_rule_that_refuses_now(self) -> None:
        """With 4xx it goes on waiting, with 5xx it has failed."""
        house = House(self, forward(reserved(self)))
        await in_thread(send, house.listen(), "b@example.test", sender="<>")
        await until(lambda: len(house.done) == 1)
        for count, code, word in ((2, 451, "deferred"), (3, 550, "failed")):
            message = f"{code // 100}.7.1 not now"
            reload(house, evolve(forward(1), action=Reject(code=code, message=message)))
            await house.idle()
            await house.mta.queue_ask({"do": "retry", "all": True})
            await until(lambda count=count: len(house.done) == count)
            self.assertEqual((house.done[-1].outcome, house.done[-1].reply), (word, f"{code} {message}"))

    async def test_a_limit_that_is_used_up_stays_so(self) -> None:
        """Under the same name and number; another number begins anew."""
        limits = RuleLimits(messages=Rate(rate=(1, 3600.0)))
        house = House(self, evolve(LOCAL, limits=limits))
        port = house.listen()

        def tried(talk: BufferedRWPair) -> str:
            talk.readline()
            return [says(talk, line) for line in ("HELO c", "MAIL FROM:<a@x.test>", "RCPT TO:<b@local.test>")][-1]

        def connected() -> str:
            with socket.create_connection(("127.0.0.1", port), 30) as client, client.makefile("rwb") as talk:
                return tried(talk)

        self.assertEqual(await in_thread(connected), "250")
        self.assertEqual(await in_thread(connected), "451")
        reload(house, evolve(LOCAL, limits=limits), evolve(LOCAL, name="another"))
        self.assertEqual(await in_thread(connected), "451")
        reload(house, evolve(LOCAL, limits=evolve(limits, messages=Rate(rate=(2, 3600.0)))))
        self.assertEqual(await in_thread(connected), "250")

    async def test_the_size_that_is_taken_and_the_room_that_there_is(self) -> None:
        """What EHLO offers is new with the next one; a queue that is full takes nothing."""
        house = House(self)
        port = house.listen()

        def asked() -> tuple[bytes, str]:
            with socket.create_connection(("127.0.0.1", port), 30) as client, client.makefile("rwb") as talk:
                talk.readline()
                talk.write(b"EHLO c\r\n")
                talk.flush()
                lines: list[bytes] = []
                while not lines or lines[-1][3:4] == b"-":
                    lines.append(talk.readline())
                return b"".join(lines), says(talk, "MAIL FROM:<a@x.test>")

        offered, reply = await in_thread(asked)
        self.assertEqual((b"SIZE 5000" in offered, reply), (False, "250"))
        reload(house, LOCAL, max_message_size=5000, queue=Queue(max_size=0))
        offered, reply = await in_thread(asked)
        self.assertEqual((b"SIZE 5000" in offered, reply), (True, "452"))


class AccountTests(TestCase):
    async def test_accounts_come_and_go(self) -> None:
        """From the configuration and from another file; who was banned stays so."""
        house = House(self, auth=Auth(users=(User(name="a@x.test", password_hash=HASHES["secret"]),)))
        login = house.mta._login
        self.assertIsNotNone(login._file.users.find("a@x.test"))
        for _ in range(house.email.auth.failures.max):
            login._failures.failed("192.0.2.1", "a@x.test")
        path = house.state / "users.yaml"
        path.write_text(f"- {{name: c@x.test, password_hash: {HASHES['secret']!r}}}\n")
        users = (User(name="b@x.test", password_hash=HASHES["secret"]),)
        reload(house, LOCAL, auth=Auth(users=users, users_file=path))
        await login._file.look()
        found = [login._file.users.find(f"{name}@x.test") is not None for name in "abc"]
        self.assertEqual(found, [False, True, True])
        self.assertTrue(login.banned("192.0.2.1"))
        same = login._file
        reload(house, LOCAL)
        self.assertIs(login._file, same)

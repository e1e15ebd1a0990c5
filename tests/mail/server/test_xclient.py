"""XCLIENT over real connections: whom it is believed from, and what a client is that is introduced so."""

from __future__ import annotations

from ipaddress import ip_network

from twisted.trial.unittest import TestCase

from dcrouter.config.accounts import Auth, AuthFailures, User
from dcrouter.config.rules import Rule, RuleMatch
from tests.mail.house import LOCAL, LOOPBACK, House, dialogue, in_thread
from tests.mail.server.accounts import HASHES
from tests.mail.test_reload import reload
from tests.support.facts import until

FROM, TO = "MAIL FROM:<a@x.test>", "RCPT TO:<b@local.test>"
ONLY_ALICE = Rule(name="alice", match=RuleMatch(recipients=("*@local.test",), client_ips=(ip_network("192.0.2.7/32"),)),
                  action=LOCAL.action)  # fmt: skip


class XClientTests(TestCase):
    async def test_the_client_is_who_the_proxy_says(self) -> None:
        """Rules, Received, the log of sessions: all mean the address that was told; the session begins anew."""
        house = House(self, ONLY_ALICE, xclient_from=LOOPBACK)
        port = house.listen()
        replies = await in_thread(
            dialogue, port, "EHLO proxy", FROM, TO, "RSET",
            "XCLIENT NAME=alice.test ADDR=192.0.2.7 PORT=4711 PROTO=ESMTP HELO=alice.test",
            TO, "EHLO alice.test", FROM, TO, "DATA", b"Subject: x\r\n\r\nx\r\n.\r\n", "QUIT",
        )  # fmt: skip
        self.assertEqual(
            replies[1], b"250 XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT"[:3] + replies[1][3:]
        )
        self.assertEqual(replies[3][:4], b"550 ")
        self.assertEqual(replies[5], b"220 mail.example.test ESMTP")
        self.assertEqual([reply[:3] for reply in replies[6:]], [b"503", b"250", b"250", b"250", b"354", b"250", b"221"])
        await until(lambda: house.mails("b@local.test") and house.closed)
        self.assertIn(b"Received: from alice.test (alice.test [192.0.2.7])\n", house.mails("b@local.test")[0])
        self.assertEqual((house.closed[0].peer, house.closed[0].via), (("192.0.2.7", 4711), "127.0.0.1"))

    async def test_nobody_else_is_heard(self) -> None:
        """Neither announced nor obeyed; and a reload decides anew, in both directions."""
        house = House(self, ONLY_ALICE)
        port = house.listen()
        lines = ("EHLO c", "XCLIENT ADDR=192.0.2.7", "EHLO c", FROM, TO)
        for key, codes in (
            ((), [b"502", b"250", b"250", b"550"]),
            (LOOPBACK, [b"220", b"250", b"250", b"250"]),
            ((ip_network("192.0.2.7/32"),), [b"502", b"250", b"250", b"550"]),
        ):
            reload(house, ONLY_ALICE, xclient_from=key)
            replies = await in_thread(dialogue, port, *lines)
            self.assertEqual([reply[:3] for reply in replies[2:]], codes)

    async def test_a_client_of_unknown_address_is_nobody(self) -> None:
        """The trust in a proxy, and rules for its network, are not its client's, whose address it cannot tell."""
        near = Rule(
            name="near", match=RuleMatch(recipients=("*@local.test",), client_ips=LOOPBACK), action=LOCAL.action
        )
        house = House(self, near, xclient_from=LOOPBACK, trusted=LOOPBACK)
        port = house.listen()
        for told, code in (("NAME=a.test", b"250"), ("ADDR=[UNAVAILABLE]", b"550"), ("ADDR=[TEMPUNAVAIL]", b"550")):
            replies = await in_thread(dialogue, port, f"XCLIENT {told}", "EHLO c", FROM, TO)
            self.assertEqual(replies[-1][:3], code, told)

    async def test_a_login_that_the_proxy_has_seen_counts(self) -> None:
        """Submission without AUTH: `may_send_as` holds, for an account that no table has its own name alone; who is
        introduced anew has no login any more."""
        auth = Auth(users=(User(name="u@x.test", password_hash=HASHES["secret"], may_send_as=("*@x.test",)),))
        house = House(self, xclient_from=LOOPBACK, auth=auth, require_tls="never")
        port = house.listen("submission")
        for login, sender, code in (
            ("u@x.test", "a@x.test", b"250"),
            ("u@x.test", "a@y.test", b"553"),
            ("other@y.test", "other@y.test", b"250"),
            ("other@y.test", "u@x.test", b"553"),
            ("*@x.test", "u@x.test", b"553"),
            ("uid7", "u@x.test", b"553"),
            ("[UNAVAILABLE]", "u@x.test", b"530"),
        ):
            told = f"XCLIENT ADDR=192.0.2.1 LOGIN={login}"
            replies = await in_thread(dialogue, port, told, "EHLO c", f"MAIL FROM:<{sender}>")
            self.assertEqual(replies[-1][:3], code, (login, sender))
        again = ("XCLIENT LOGIN=u@x.test", "XCLIENT ADDR=192.0.2.2", "EHLO c", FROM)
        replies = await in_thread(dialogue, port, *again)
        self.assertEqual(replies[-1][:3], b"530")

    async def test_bans_are_of_the_client(self) -> None:
        """A banned client gets 421 by whatever proxy it comes; the next one that the proxy brings is greeted."""
        auth = Auth(
            users=(User(name="u@x.test", password_hash=HASHES["secret"]),), failures=AuthFailures(max=1, ban=60.0)
        )
        house = House(self, xclient_from=LOOPBACK, auth=auth)
        port = house.listen("submission")
        house.sessions.login._failures.failed("192.0.2.9", "u@x.test")
        replies = await in_thread(dialogue, port, "XCLIENT ADDR=192.0.2.9")
        self.assertEqual(replies[-1][:9], b"421 4.7.0")
        replies = await in_thread(dialogue, port, "XCLIENT ADDR=192.0.2.10", "EHLO c")
        self.assertEqual([reply[:3] for reply in replies], [b"220", b"220", b"250"])

    async def test_what_is_malformed_changes_nothing(self) -> None:
        """501; and 503 within a transaction."""
        house = House(self, xclient_from=LOOPBACK)
        bad = ("", " ADDR", " ADDR=1.2.3", " ADDR=192.0.2.1 ADDR=192.0.2.2", " PORT=70000", " PROTO=LMTP", " FOO=1",
               " NAME=a+ZZ", " LOGIN=a+00b", " DESTADDR=x", " NAME=a,b")  # fmt: skip
        replies = await in_thread(dialogue, house.listen(), *(f"XCLIENT{one}" for one in bad))
        self.assertEqual({reply[:9] for reply in replies[1:]}, {b"501 5.5.4"})
        replies = await in_thread(dialogue, house.listen(), "EHLO c", FROM, "XCLIENT ADDR=192.0.2.1", TO)
        self.assertEqual([reply[:3] for reply in replies[2:]], [b"250", b"503", b"250"])
        told = ("XCLIENT ADDR=IPV6:2001:db8::1 NAME=[UNAVAILABLE] DESTADDR=192.0.2.25 DESTPORT=25 HELO=b+41d", "QUIT")
        await in_thread(dialogue, house.listen(), *told)
        await until(lambda: len(house.closed) == 3)
        (session,) = [one for one in house.closed if one.peer[0] == "2001:db8::1"]
        self.assertEqual(session.local, ("192.0.2.25", 25))

"""What code of the operator's may say of a connection to another mail server, and what is made of it."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.config.plain import egress_rules_from_plain
from dcrouter.handlers.egress import departure_of, telling
from dcrouter.interfaces import ByEndpoint, Departure


class EgressTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.told = telling(reactor)

    def test_the_question(self) -> None:
        """All that such a decision needs, as it crosses from one process to the other."""
        plain = {
            "host": "mx.test",
            "port": 25,
            "address": None,
            "local": "192.0.2.1",
            "zone": "bulk",
            "recipient": "a@b.test",
            "message": "1f",
            "attempts": 3,
        }
        self.assertEqual(departure_of({"departure": plain}), Departure(**plain))  # type: ignore[arg-type]

    def test_proxies(self) -> None:
        """One, or several: what happens when none works is the file's business."""
        for choice in ("socks5://me:hu%24%7Bsh@p:1080", ["socks5://me:hu${sh@p:1080", "http://q:3128"]):
            answer = self.told(choice)
            self.assertNotIn("whole", answer)
            (rule,) = egress_rules_from_plain(answer["rules"])
            self.assertEqual((rule.through[0].host, rule.through[0].password), ("p", "hu${sh"))

    def test_rules(self) -> None:
        """As in the file, with conditions of their own."""
        answer = self.told(
            [
                {"match": {"host": "a.test"}, "through": ["http://p:3128"], "on_failure": "direct"},
                {"through": ["http://q:1"]},
            ]
        )
        self.assertTrue(answer["whole"])
        one, other = egress_rules_from_plain(answer["rules"])
        self.assertEqual((one.match.host, one.on_failure, other.on_failure), (("a.test",), "direct", "defer"))

    def test_the_rest(self) -> None:
        """Nothing, straight, an endpoint."""
        self.assertEqual(self.told(None), {})
        self.assertEqual(self.told("direct"), {"direct": True})
        self.assertEqual(self.told(ByEndpoint("tcp:127.0.0.1:25")), {"endpoint": "tcp:127.0.0.1:25"})

    def test_what_is_wrong_is_told_without_secrets(self) -> None:
        """Not a proxy, no such key, code again, nothing at all."""
        wrong: tuple[tuple[Any, str], ...] = (
            ("ftp://me:hush@p:21", "not a proxy"),
            ({"trough": ["http://me:hush@p:1"]}, "unknown key"),
            ({"select": "a:b"}, "asks code again"),
            ([], "says nothing"),
            (7, "a int says nothing"),
            ([{}] * 101, "more than 100"),
            (ByEndpoint("nonsense:1"), ""),
        )
        for choice, words in wrong:
            error = self.assertRaises((TypeError, ValueError), self.told, choice)
            self.assertIn(words, str(error))
            self.assertNotIn("hush", str(error))

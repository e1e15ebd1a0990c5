"""email.rate_limits: keys, counts, tiers and quotas on a clock that is turned by hand; restart and reload."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.config.guards import LimitKey, MailLimit
from dcrouter.config.rates import Rate
from dcrouter.events import LimitReached
from dcrouter.mail.envelope import Client
from dcrouter.mail.server.guards.limits import RateLimits, Tally
from tests.mail.server.guards.made import START, made_ledger

STRANGER = Client(address="192.0.2.9", kind="smtp")
NEIGHBOUR = Client(address="192.0.2.10", kind="smtp")
USER = Client(address="198.51.100.1", kind="submission", account="Alice@ours.test")


def limit(
    key: LimitKey, rate: int | None = None, *, seconds: float = 60.0, quota: int | None = None, **more: Any
) -> MailLimit:
    """So many a minute, and a day."""
    return MailLimit(
        key=key,
        rate=Rate(rate=(rate, seconds)) if rate is not None else None,
        quota=(quota, 86400.0) if quota is not None else None,
        **more,
    )


class RateLimitsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.clock = Clock()
        self.told: list[LimitReached] = []

    def limits(self, *limits: MailLimit) -> RateLimits:
        ledger = made_ledger(self.directory, self.clock)
        self.addCleanup(ledger.close)
        self.close_ledger = ledger.close
        made = RateLimits(ledger, self.clock.seconds, lambda: START + self.clock.seconds(), self.told.append)
        made.reload(limits)
        return made

    def send(
        self,
        limits: RateLimits,
        *recipients: str,
        client: Client = STRANGER,
        sender: str = "s@x.test",
        size: int = 0,
        announced: int = 0,
    ) -> list[bytes]:
        """The codes of MAIL and of each RCPT of one message, which is then taken."""
        tally = Tally("s1", announced)
        refusal = limits.sender(client, sender, tally)
        if refusal is not None:
            return [refusal.reply[:9]]
        codes = [b"250"]
        for address in recipients or ("u@ours.test",):
            refusal = limits.recipient(client, sender, address, tally)
            codes.append(b"250" if refusal is None else refusal.reply[:9])
        if b"250" in codes[1:]:
            limits.received(tally, size)
        return codes

    def test_messages_of_an_address(self) -> None:
        """Each once, however many recipients it has; then 451 4.7.1 at MAIL, until there is room. RFC 3463 3.8."""
        limits = self.limits(limit("client_ip", 2))
        for _ in range(2):
            self.assertEqual(self.send(limits, "a@ours.test", "b@ours.test"), [b"250"] * 3)
        self.assertEqual(self.send(limits), [b"451 4.7.1"])
        self.assertEqual(self.send(limits, client=NEIGHBOUR), [b"250", b"250"])
        self.clock.advance(30)
        self.assertEqual(self.send(limits), [b"250", b"250"])

    def test_whose_mail_is_counted_together(self) -> None:
        """By each key: two who are the same by it, and one who is not."""

        def at(address: str) -> dict[str, Any]:
            return {"client": Client(address=address, kind="smtp")}

        keys: tuple[tuple[LimitKey, dict[str, Any], dict[str, Any], dict[str, Any]], ...] = (
            ("client_ip", at("2001:db8::1"), at("2001:db8::2"), at("2001:db8:0:1::1")),
            ("client_network", {}, {"client": NEIGHBOUR}, at("192.0.3.9")),
            ("client_network", at("2001:db8::1"), at("2001:db8:0:1::1"), at("2001:db8:1::1")),
            (
                "account",
                {"client": USER},
                {"client": Client(address="192.0.2.1", kind="smtps", account="alice@ours.test")},
                {"client": Client(address=USER.address, kind="submission", account="bob@ours.test")},
            ),
            ("sender", {"sender": "a@x.test"}, {"sender": "A@X.test"}, {"sender": "b@x.test"}),
            ("sender_domain", {"sender": "a@x.test"}, {"sender": "b@X.TEST"}, {"sender": "a@y.x.test"}),
        )
        for key, ours, also, other in keys:
            limits = self.limits(limit(key, 1))
            self.assertEqual(self.send(limits, **ours), [b"250", b"250"], key)
            self.assertEqual(self.send(limits, **also), [b"451 4.7.1"], key)
            self.assertEqual(self.send(limits, **other), [b"250", b"250"], key)

    def test_by_the_recipients_domain(self) -> None:
        """Decided for each recipient; messages once for each domain, recipients each."""
        limits = self.limits(limit("recipient_domain", 1))
        self.assertEqual(self.send(limits, "a@one.test", "b@One.test", "a@two.test"), [b"250"] * 4)
        self.assertEqual(self.send(limits, "a@one.test", "a@three.test"), [b"250", b"451 4.7.1", b"250"])
        limits = self.limits(limit("recipient_domain", 1, count="recipients"))
        self.assertEqual(self.send(limits, "a@one.test", "b@one.test"), [b"250", b"250", b"451 4.7.1"])

    def test_whom_a_limit_does_not_apply_to(self) -> None:
        """By account, who has not logged in; by sender, the null reverse-path, which is nobody's (RFC 5321 4.5.5)."""
        limits = self.limits(limit("account", 1), limit("sender", 1), limit("sender_domain", 1))
        for _ in range(3):
            self.assertEqual(self.send(limits, sender=""), [b"250", b"250"])

    def test_recipients(self) -> None:
        """Each counts; those that are over wait, the others go, and who is refused uses nothing up."""
        limits = self.limits(limit("client_ip", 3, count="recipients"))
        self.assertEqual(self.send(limits, *"abcd"), [b"250"] * 4 + [b"451 4.7.1"])
        self.assertEqual(self.send(limits), [b"451 4.7.1"])
        self.clock.advance(20)
        self.assertEqual(self.send(limits, *"ab"), [b"250", b"250", b"451 4.7.1"])

    def test_bytes(self) -> None:
        """What has come counts, once; one that goes beyond is taken, and the next wait for as long as it is worth. An
        announced size must fit, as far as any does.
        """
        limits = self.limits(limit("client_ip", 600, count="bytes"))
        self.assertEqual(self.send(limits, "a", "b", size=500), [b"250"] * 3)
        self.assertEqual(self.send(limits, announced=101), [b"451 4.7.1"])
        self.assertEqual(self.send(limits, size=700), [b"250", b"250"])
        self.assertEqual(self.send(limits), [b"451 4.7.1"])
        self.clock.advance(60)
        self.assertEqual(self.send(limits, announced=5000), [b"451 4.7.1"])
        self.clock.advance(60)
        self.assertEqual(self.send(limits, announced=5000, size=5000), [b"250", b"250"])

    def test_all_limits_must_have_room(self) -> None:
        """Several tiers of one key, and of others; what one refuses uses up nothing of the others."""
        limits = self.limits(
            limit("client_ip", 2, seconds=1.0), limit("client_ip", 3, seconds=3600.0), limit("sender", 100)
        )
        self.assertEqual([self.send(limits)[-1] for _ in range(3)], [b"250", b"250", b"451 4.7.1"])
        self.clock.advance(1)
        self.assertEqual([self.send(limits)[-1] for _ in range(2)], [b"250", b"451 4.7.1"])

    def test_more_can_be_refused_for_good(self) -> None:
        """`then: reject`: 550 5.7.1."""
        limits = self.limits(limit("client_ip", 1, then="reject"))
        self.send(limits)
        self.assertEqual(self.send(limits), [b"550 5.7.1"])

    def test_a_quota_is_for_each_day(self) -> None:
        """All at once if need be; it begins anew at midnight (UTC)."""
        limits = self.limits(limit("account", quota=3, count="recipients"))
        self.assertEqual(self.send(limits, *"abcd", client=USER), [b"250"] * 4 + [b"451 4.7.1"])
        self.clock.advance(86400 - START % 86400 - 1)
        self.assertEqual(self.send(limits, client=USER), [b"451 4.7.1"])
        self.clock.advance(1)
        self.assertEqual(self.send(limits, client=USER), [b"250", b"250"])

    def test_a_quota_survives_a_restart(self) -> None:
        """What was used up stays so, for each one; a rate begins anew."""
        before = self.limits(limit("account", 2, quota=3))
        self.assertEqual(self.send(before, client=USER)[-1], b"250")
        self.assertEqual(self.send(before, client=USER)[-1], b"250")
        self.close_ledger()
        after = self.limits(limit("account", 2, quota=3))
        self.assertEqual(self.send(after, client=USER)[-1], b"250")
        self.assertEqual(self.send(after, client=USER), [b"451 4.7.1"])

    def test_a_reload_forgets_nothing(self) -> None:
        """What has been used up is, whatever the numbers are now and wherever the limit stands; a quota even if it was
        away.
        """
        limits = self.limits(limit("client_ip", 2), limit("sender", quota=2))
        for _ in range(2):
            self.send(limits)
        limits.reload([limit("sender", quota=3), limit("client_ip", 100)])
        self.clock.advance(30)
        self.assertEqual(self.send(limits), [b"250", b"250"])
        self.assertEqual(self.send(limits), [b"451 4.7.1"])
        limits.reload([])
        self.assertFalse(limits)
        limits.reload([limit("sender", quota=3)])
        self.assertEqual(self.send(limits), [b"451 4.7.1"])

    def test_alerts_come_once_in_the_limits_time(self) -> None:
        """An event for each who reaches it, with the limit in words; without `alert` none."""
        limits = self.limits(limit("client_ip", 1, alert=True, quota=5), limit("sender", 1))
        for _ in range(3):
            self.send(limits)
        self.assertEqual(
            [event.to_plain() for event in self.told],
            [
                {
                    "event": "limit",
                    "session": "s1",
                    "at": self.told[0].at,
                    "limit": "messages by client_ip, 1/min, quota 5/day",
                    "key": "client_ip",
                    "who": "192.0.2.9",
                    "client": "192.0.2.9",
                }
            ],
        )
        self.send(limits, client=NEIGHBOUR, sender="n@x.test")
        self.send(limits, client=NEIGHBOUR, sender="n@x.test")
        self.assertEqual(len(self.told), 2)
        self.clock.advance(86400)
        for _ in range(2):
            self.send(limits)
        self.assertEqual(len(self.told), 3)

    def test_a_name_of_any_length_costs_the_same(self) -> None:
        """Digests are kept of what clients write."""
        limits = self.limits(limit("sender", 1, quota=1))
        sender = "x" * 5000 + "@x.test"
        self.assertEqual(self.send(limits, sender=sender), [b"250", b"250"])
        self.assertEqual(self.send(limits, sender=sender), [b"451 4.7.1"])
        (key,) = limits._limits[0].memory
        assert isinstance(key, bytes)
        self.assertEqual(len(key), 16)

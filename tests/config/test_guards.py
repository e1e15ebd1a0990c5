"""The keys of guards, as they are written."""

from __future__ import annotations

from tests.config.written import FileTestCase


class MailLimitTests(FileTestCase):
    def test_limits_of_mail(self) -> None:
        """Of every kind, with a rate, a quota or both; a rate may be written with its burst."""
        email = self.config(
            "email:\n  hostname: a.b\n  rate_limits:\n"
            "    - {key: client_ip, count: messages, rate: 100/min}\n"
            "    - {key: account, count: recipients, rate: {rate: 500/hour, burst: 7}, quota: 5000/day, alert: true}\n"
            "    - {key: sender, count: bytes, quota: 50000000000/day, then: reject}\n"
        ).email
        assert email is not None
        first, second, third = email.rate_limits
        assert first.rate is not None and second.rate is not None
        self.assertEqual((first.rate.rate, first.quota, first.alert, first.then), ((100, 60.0), None, False, None))
        self.assertEqual((second.rate.burst, second.quota, second.alert), (7, (5000, 86400.0), True))
        self.assertEqual((third.rate, third.quota, third.then), (None, (50_000_000_000, 86400.0), "reject"))

    def test_a_burst_of_bytes(self) -> None:
        """A limit of bytes may let more than a million of them gather, as docs/guards.md shows it."""
        email = self.config(
            "email:\n  hostname: a.b\n  rate_limits:\n"
            "    - {key: recipient_domain, count: bytes, rate: {rate: 1000000/min, burst: 50000000}}\n"
        ).email
        assert email is not None and email.rate_limits[0].rate is not None
        self.assertEqual(email.rate_limits[0].rate.burst, 50_000_000)

    def test_slips_of_mail_limits(self) -> None:
        """Each at its place."""
        for text, problem in (
            ("{key: client_ip}", "email.rate_limits[0]: 'rate' or 'quota' is missing"),
            ("{rate: 1/s}", "email.rate_limits[0]: 'key' is missing"),
            ("{key: clientip, rate: 1/s}", "'clientip' is not one of client_ip, client_network,"),
            ("{key: client_ip, rate: 1/s, then: ban}", "email.rate_limits[0].then: 'ban' is not"),
            ("{key: client_ip, rate: 1/week}", "email.rate_limits[0].rate: '1/week' is not a rate"),
        ):
            problems = self.problems(f"email:\n  hostname: a.b\n  rate_limits: [{text}]\n")
            self.assertIn(problem, "\n".join(problems))


class ListTests(FileTestCase):
    def test_lists_and_greylisting(self) -> None:
        """As in the reference; codes and score have defaults."""
        email = self.config(
            "email:\n  hostname: a.b\n  dnsbl:\n"
            "    - {zone: zen.Spamhaus.org, codes: [127.0.0.2-127.0.0.11, 127.0.0.20], score: 2}\n"
            "    - {zone: bl.example}\n"
            "  dnsbl_reject_at: 4\n  greylist: {delay: 5m}\n"
        ).email
        assert email is not None and email.greylist is not None
        zen, other = email.dnsbl
        self.assertEqual(
            (zen.zone, zen.codes, zen.score), ("zen.spamhaus.org", ("127.0.0.2-127.0.0.11", "127.0.0.20"), 2)
        )
        self.assertEqual((other.codes, other.score), (("127.0.0.2-127.0.0.255",), 3))
        self.assertEqual((email.dnsbl_reject_at, email.greylist.delay), (4, 300.0))

    def test_slips_of_lists_and_greylisting(self) -> None:
        """Each at its place."""
        for text, problem in (
            ("dnsbl: [{zone: a.b, codes: [10.0.0.1]}]", "'10.0.0.1': lists answer with addresses of 127.0.0.0/8"),
            ("dnsbl: [{zone: a.b, codes: [127.0.0.9-127.0.0.2]}]", "ends before it begins"),
            ("dnsbl: [{zone: a.b, codes: [listed]}]", "'listed' is not an answer such as 127.0.0.2"),
            ("dnsbl: [{zone: a.b, codes: []}]", "no answer would count"),
            ("dnsbl: [{zone: 127.0.0.1}]", "is an address, not a host name"),
            ("greylist: {}", "email.greylist: 'delay' is missing"),
            ("greylist: {delay: 0s}", "email.greylist.delay: more than 0s"),
            ("greylist: {delay: 2d}", "email.greylist.delay: more than 0s, and a day at most"),
        ):
            self.assertIn(problem, "\n".join(self.problems(f"email:\n  hostname: a.b\n  {text}\n")))

    def test_lists_that_refuse_nobody_are_warned_of(self) -> None:
        """Whose scores never reach what refuses."""
        _, warnings = self.load("email: {hostname: a.b, dnsbl: [{zone: a.b, score: 1}, {zone: b.c, score: 1}]}")
        self.assertIn("refuses nobody: all scores add up to 2, dnsbl_reject_at is 3", "\n".join(warnings))

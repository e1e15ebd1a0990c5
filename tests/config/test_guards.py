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

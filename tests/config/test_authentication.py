"""email.authentication_results, as it is written."""

from __future__ import annotations

from dcrouter.config.authentication import AuthenticationResults
from tests.config.written import FileTestCase


class AuthenticationTests(FileTestCase):
    def test_all_of_it_as_in_the_reference(self) -> None:
        """Each key on its own; without any, everything is checked and nothing is refused."""
        for text, expected in (
            ("", AuthenticationResults(spf=True, dkim=True, dmarc="monitor", arc=True, iprev=True)),
            ("{spf: true, dkim: true, dmarc: enforce, arc: true, iprev: true}", AuthenticationResults(dmarc="enforce")),
            ("{spf: false, dmarc: ignore}", AuthenticationResults(spf=False, dmarc="ignore")),
        ):
            written = f"  authentication_results: {text}\n" if text else ""
            email = self.config(f"email:\n  hostname: a.b\n{written}").email
            assert email is not None
            self.assertEqual(email.authentication_results, expected)

    def test_slips(self) -> None:
        """What cannot be, and what would refuse mail that is good."""
        for text, problem in (
            ("{dmarc: reject}", "email.authentication_results.dmarc: 'reject' is not"),
            ("{spf: false, dmarc: enforce}", "email.authentication_results.dmarc: enforce needs `spf` and `dkim`"),
            ("{dkim: false, dmarc: enforce}", "email.authentication_results.dmarc: enforce needs `spf` and `dkim`"),
            ("{spv: true}", "did you mean 'spf'"),
        ):
            problems = self.problems(f"email:\n  hostname: a.b\n  authentication_results: {text}\n")
            self.assertIn(problem, "\n".join(problems))

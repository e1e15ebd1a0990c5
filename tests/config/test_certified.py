"""certificates.acme and on_demand, as they are read and checked."""

from __future__ import annotations

from pathlib import Path

from dcrouter.config.acme import KNOWN
from dcrouter.config.forms import HostPort
from tests.config.test_files import pair
from tests.config.written import FORWARD, FileTestCase

WHOLE = """
certificates:
  acme:
    email: admin@example.com
    directory: zerossl
    fallback: [letsencrypt, "https://ca.example.com/dir"]
    ca_file: ca.pem
    external_account: {key_id: abc, hmac_key: {file: eab.key}}
    challenges: [dns-01, tls-alpn-01, http-01]
    key_type: rsa-2048
    profile: tlsserver
    renew_at: 0.5
    dns: {provider: rfc2136, server: "192.0.2.53:5353", key_name: k, key_secret: "aGVsbG8="}
  on_demand: {ask: "http://127.0.0.1:9000/may-i", rate: 10/min}
"""


def routes(*domains: str, **tls: str) -> str:
    words = ", ".join(["mode: terminate", *(f"{key}: {value}" for key, value in tls.items())])
    names = ", ".join(f'"{name}"' for name in domains)
    match = f"{{ports: 443, domains: [{names}]}}"
    return f"routes: [{{name: a, match: {match}, tls: {{{words}}}, action: {{type: respond}}}}]\n"


class ReadTests(FileTestCase):
    def test_every_key(self) -> None:
        """As the reference has them."""
        pair("ca")
        Path("eab.key").write_text("aGVsbG8\n")
        config = self.config(WHOLE + routes("www.example.com"))
        acme, on_demand = config.certificates.acme, config.certificates.on_demand
        assert acme is not None and on_demand is not None and acme.dns is not None
        self.assertEqual(acme.directories, (KNOWN["zerossl"], KNOWN["letsencrypt"], "https://ca.example.com/dir"))
        self.assertEqual(acme.dns.server, HostPort("192.0.2.53", 5353))
        self.assertEqual(on_demand.rate.rate, (10, 60.0))
        self.assertNotIn("aGVsbG8", repr(config))

    def test_little_is_enough(self) -> None:
        """All else has its default."""
        acme = self.config("certificates: {acme: {}}\n" + routes("www.example.com")).certificates.acme
        assert acme is not None
        self.assertEqual(acme.directories, (KNOWN["letsencrypt"],))
        self.assertEqual((acme.challenges, acme.key_type), (("tls-alpn-01", "http-01"), "ecdsa-p256"))

    def wrong(self, acme: str, words: str) -> None:
        problems = self.problems(f"certificates: {{acme: {{{acme}}}}}\n" + routes("www.example.com"))
        self.assertEqual(len(problems), 1, problems)
        self.assertIn(words, problems[0])

    def test_what_cannot_be(self) -> None:
        """Each is told where it stands."""
        for acme, words in (
            ("email: nobody", "acme.email: 'nobody' is not a mail address"),
            ("directory: letsencript", "did you mean 'letsencrypt'?"),
            ("directory: 'http://ca.example.com/dir'", "is not an https URL"),
            ("directory: zerossl", "acme.directory: zerossl needs `external_account`"),
            ("fallback: [zerossl]", "acme.fallback: zerossl needs `external_account`"),
            ("external_account: {key_id: a, hmac_key: '?'}", "hmac_key: the HMAC key is not base64url"),
            ("external_account: {key_id: a, hmac_key: {file: none.key}}", "none.key cannot be read"),
            ("ca_file: none.pem", "acme.ca_file: "),
            ("challenges: [dns-01]", "acme.challenges: dns-01 needs `dns`"),
            ("challenges: []", "nothing could be proved"),
            (
                "challenges: [dns-01], dns: {provider: rfc2136, server: 192.0.2.1, key_name: k}",
                "'key_secret' is missing",
            ),
            ("challenges: [dns-01], dns: {provider: exec}", "'command' is missing"),
            (
                "challenges: [dns-01], dns: {provider: exec, command: [a], server: 192.0.2.1}",
                "server: belongs to rfc2136",
            ),
            ("challenges: [dns-01], dns: {provider: dcrouter}", "is not one of rfc2136, exec"),
            (
                "challenges: [dns-01], dns: {provider: rfc2136, server: 192.0.2.1, key_name: k, key_secret: '?'}",
                "key_secret: the TSIG key is not base64",
            ),
            (
                "challenges: [dns-01], dns: {provider: rfc2136, server: 192.0.2.1, key_name: a..b, key_secret: 'aa=='}",
                "key_name: 'a..b' is not the name of a TSIG key",
            ),
            ("renew_at: 0", "renew_at: a certificate is renewed in its lifetime"),
            ("renew_at: 1", "renew_at: a certificate is renewed in its lifetime"),
            ("key_type: rsa-1024", "is not one of ecdsa-p256"),
        ):
            self.wrong(acme, words)

    def test_what_is_hardly_meant(self) -> None:
        """Is allowed."""
        acme = "fallback: [letsencrypt], challenges: [http-01, http-01], dns: {provider: exec, command: [x]}"
        _, warnings = self.load(f"certificates: {{acme: {{{acme}}}}}\n" + routes("www.example.com"))
        self.assertEqual(len(warnings), 3, warnings)

    def test_a_challenge_that_nobody_can_show(self) -> None:
        """A port that is not open cannot be looked at; http-01 has one opened for it."""
        elsewhere = routes("www.example.com").replace("ports: 443", "ports: 8443")
        _, warnings = self.load("certificates: {acme: {challenges: [tls-alpn-01]}}\n" + elsewhere)
        self.assertEqual(len(warnings), 1, warnings)
        self.assertIn("acme.challenges: authorities look for tls-alpn-01 on port 443", warnings[0])
        self.config("certificates: {acme: {}}\n" + elsewhere)
        self.config("certificates: {acme: {challenges: [tls-alpn-01]}}\n" + routes("www.example.com"))

    def test_on_demand_needs_somebody_who_issues(self) -> None:
        """And its question is a plain one."""
        problems = self.problems("certificates: {on_demand: {ask: 'http://a/b'}}\n" + routes("www.example.com"))
        self.assertIn("certificates.on_demand: nobody would issue them", problems[0])
        problems = self.problems(
            "certificates: {acme: {}, on_demand: {ask: 'http://a/b?domain=x'}}\n" + routes("www.example.com")
        )
        self.assertIn("ask: `domain=NAME` is added to it", problems[0])


class NameTests(FileTestCase):
    ACME = "certificates: {acme: {%s}%s}\n"

    def test_wildcards_need_dns(self) -> None:
        """Or a file that covers them, or orders on demand, or another certificate."""
        problems = self.problems(self.ACME % ("", "") + routes("www.example.com", "*.example.com"))
        self.assertEqual(len(problems), 1)
        self.assertIn("routes[0].match.domains[1]: a certificate for *.example.com needs dns-01", problems[0])
        dns = "challenges: [dns-01], dns: {provider: exec, command: [x]}"
        self.config(self.ACME % (dns, "") + routes("*.example.com"))
        self.config(self.ACME % ("", ", on_demand: {ask: 'http://a/b'}") + routes("*.example.com"))
        self.config(self.ACME % ("", "") + routes("*.example.com", certificate="internal"))
        through = routes("*.example.com").replace("terminate", "passthrough").replace("{type: respond}", FORWARD)
        self.config(self.ACME % ("", "") + through)
        self.config("certificates: {}\n" + routes("*.example.com"))
        pair("w", names=("*.example.com",))
        self.config(self.ACME % ("", ", files: [{cert: w.pem, key: w.key}]") + routes("*.example.com"))

    def test_names_that_no_public_authority_certifies(self) -> None:
        """Are left to the internal CA, which is told; another directory may certify them."""
        names = ("localhost", "www.example.test", "printer.local", "host", "*.corp.internal")
        _, warnings = self.load(self.ACME % ("", "") + routes(*names))
        self.assertEqual(len(warnings), len(names), warnings)
        self.assertIn("no public authority certifies localhost: the internal CA does", warnings[0])
        self.config(self.ACME % ("directory: 'https://ca.corp.internal/dir'", "") + routes(*names[:-1]))
        mail = "email: {hostname: mail.test, ports: [25], rules: [{name: r, action: {type: reject}}]}\n"
        _, warnings = self.load(self.ACME % ("", "") + mail)
        self.assertTrue(any("email.hostname: no public authority certifies mail.test" in one for one in warnings))

    def test_expressions_are_left_alone(self) -> None:
        """No certificate is for them."""
        self.config(self.ACME % ("", "") + routes("www.example.com", "re:^shop[0-9]+\\\\.example\\\\.org$"))

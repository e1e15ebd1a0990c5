"""For which names certificates are ordered."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from dcrouter.config.acme import Acme
from dcrouter.config.tls import CertificateChoice, CertificateFiles
from dcrouter.tls.wanted import is_orderable, wanted_names

PUBLIC = Acme()
OWN = Acme(directory="https://ca.corp.example/dir")
DNS = Acme(challenges=("dns-01",))
FILES = CertificateFiles(cert=Path("a.pem"), key=Path("a.key"))
Said = tuple[CertificateChoice, tuple[str, ...]]


class WantedTests(SynchronousTestCase):
    def wanted(self, acme: Acme, *said: Said, covered: frozenset[str] = frozenset()) -> list[str]:
        return list(wanted_names(acme, said, covered))

    def test_what_auto_chooses(self) -> None:
        """Each name once; nothing for those who have chosen themselves."""
        said: tuple[Said, ...] = (
            ("auto", ("a.example.com", "B.example.com")),
            ("internal", ("c.example.com",)),
            (FILES, ("d.example.com",)),
        )
        self.assertEqual(self.wanted(PUBLIC, *said, ("auto", ("a.example.com",))), ["a.example.com", "b.example.com"])

    def test_never_an_expression_nor_what_a_file_covers(self) -> None:
        """As it stands, or by its wildcard."""
        said: Said = ("auto", ("re:.*\\.example\\.com", "a.example.com", "b.example.org", "deep.b.example.org"))
        covered = frozenset(("a.example.com", "*.example.org"))
        self.assertEqual(self.wanted(PUBLIC, said, covered=covered), ["deep.b.example.org"])

    def test_wildcards_need_dns(self) -> None:
        """`**.` is what its certificate is for."""
        said: Said = ("auto", ("*.example.com", "**.example.org"))
        self.assertEqual(self.wanted(PUBLIC, said), [])
        self.assertEqual(self.wanted(DNS, said), ["*.example.com", "*.example.org"])

    def test_names_that_nobody_certifies(self) -> None:
        """Depend on who is asked."""
        names = ("www.example.com", "host", "a.test", "a.local", "localhost", "192.0.2.1")
        self.assertEqual([name for name in names if is_orderable(name, PUBLIC)], ["www.example.com"])
        self.assertEqual([name for name in names if is_orderable(name, OWN)], list(names[:4]))

from __future__ import annotations

import ssl
from pathlib import Path

from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.config.tls import ClientAuth, TlsProfile
from dcrouter.tls.clients import ClientCheck
from dcrouter.tls.contexts import MOST, MOST_CHECKED, TICKETS, Contexts, Identity
from tests.support.certificates import Authority
from tests.support.handshake import Met, Server, meet, trusting

AUTHORITY = Authority()
SITE = AUTHORITY.credential(["a.test"])


class ContextsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.now = 0.0
        self.contexts = Contexts(TlsProfile(), lambda: self.now)

    def test_the_longest_unused_goes_first(self) -> None:
        """There are MOST at most; one that is asked for again is built again."""
        first, second = Identity((SITE,)), Identity((SITE,))
        old, kept = self.contexts.get(first, ()), self.contexts.get(second, ())
        for number in range(MOST - 2):
            self.contexts.get(first, (f"p{number}",))
        self.assertIs(self.contexts.get(second, ()), kept)
        self.contexts.get(first, ("one more",))
        self.assertEqual(len(self.contexts), MOST)
        self.assertIs(self.contexts.get(second, ()), kept)
        self.assertIsNot(self.contexts.get(first, ()), old)

    def test_ticket_keys_change_with_their_context(self) -> None:
        """Tickets are taken until it is replaced, for TLS 1.2 and 1.3; whoever has begun by the old one goes on."""
        identity = Identity((SITE,))
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            client = trusting(AUTHORITY.root_pem)
            client.minimum_version = client.maximum_version = version

            def visit(session: ssl.SSLSession | None, client: ssl.SSLContext = client) -> Met:
                context = self.contexts.get(identity, ())
                return meet(Server(self, context).port, "a.test", b"", context=client, session=session)

            first = visit(None)
            self.now += TICKETS - 1
            self.assertTrue(visit(first.session).resumed)
            self.now += 1
            self.assertFalse(visit(first.session).resumed)

    def test_checks_that_hold_no_more_go(self) -> None:
        """Each new list of revoked certificates is a new check: MOST_CHECKED of an identity at most."""
        auth = ClientAuth(ca=Path("ca"), crl=Path("crl"))
        identity = Identity((SITE,))
        first: SSL.Context | None = None
        for _ in range(MOST_CHECKED + 1):
            lists = b"".join(AUTHORITY.revocations())
            check = ClientCheck.of(auth, {"ca": AUTHORITY.root_pem, "crl": lists})
            first = first or self.contexts.get(identity, (), check)
            self.contexts.get(identity, (), check)
        self.assertEqual(len(self.contexts), MOST_CHECKED)

    def test_what_is_renewed_is_forgotten(self) -> None:
        """A context holds its key: it goes with its certificate."""
        old, new = Identity((SITE,)), Identity((SITE,))
        self.contexts.get(old, ())
        self.contexts.get(new, ())
        self.contexts.keep({new})
        self.assertEqual(len(self.contexts), 1)

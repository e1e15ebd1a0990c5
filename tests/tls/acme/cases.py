"""Orders at a CA of the test's own, which cannot wait for long."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from dcrouter import __version__
from dcrouter.errors import AcmeError
from dcrouter.tls.acme.authority import Authority
from dcrouter.tls.acme.waiting import Patience
from tests.support.acmeca import AcmeCa
from tests.tls.acme.solvers import Remembering
from tests.tls.acme.test_pebble import key

QUICK = Patience(connect=30, answer=30, solver=30, validation=30, issuance=30, pause=0.01, pause_at_most=0.05)
NAME = ("a.example.com",)
AGENT = f"dcrouter/{__version__}"


class FaultCase(TestCase):
    def setUp(self) -> None:
        self.ca = AcmeCa(self)
        self.solver = Remembering()

    def authority(self, ca: AcmeCa | None = None, **settings: Any) -> Authority:
        ca = ca or self.ca
        settings = {"trust": ca.trust, "patience": QUICK, **settings}
        authority = Authority(reactor, settings.pop("url", ca.url), settings.pop("key", None) or key(), **settings)
        self.addCleanup(authority.close)
        return authority

    async def fails(self, kind: type[AcmeError] = AcmeError, names: tuple[str, ...] = NAME, **settings: Any) -> Any:
        """The error of an order, for which everything is cleaned up."""
        with self.assertRaises(kind) as caught:
            await self.authority(**settings).issue(names, key(), {"http-01": self.solver})
        self.assertEqual(self.solver.shown, {})
        return caught.exception

"""`dcrouter suppression` in front of a real list, over the API."""

from __future__ import annotations

import json
import time
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import succeed
from twisted.trial.unittest import TestCase

from dcrouter.config.mail import Email
from dcrouter.mail.bounces import suppression
from dcrouter.mail.bounces.suppression import Suppression
from dcrouter.mail.ledger import Ledger
from tests.mail.house import LOCAL
from tests.support.commanded import Service, Socket


class SuppressionTests(TestCase):
    def setUp(self) -> None:
        ledger = Ledger(Path(self.mktemp()), reactor, time.time, lambda call, *args: succeed(call(*args)))
        self.addCleanup(ledger.close)
        self.known = Suppression(ledger, time.time)
        self.known.reload(Email(hostname="mail.example.test", rules=(LOCAL,), suppression=("no@x.test",)))
        self.socket = Socket(self, Service(suppression=self.known.answered))

    async def command(self, *arguments: str) -> tuple[int, str, str]:
        return await self.socket.run("suppression", *arguments)

    async def test_addresses_are_added_listed_and_removed(self) -> None:
        """With reason and end; what the file says stays."""
        self.assertEqual(
            await self.command("add", "a@x.test", "b@x.test", "--for", "7d"), (0, "a@x.test\nb@x.test\n", "")
        )
        status, out, _ = await self.command("list")
        first, second, third = out.splitlines()
        self.assertEqual(status, 0)
        self.assertRegex(first, r"^a@x\.test   operator  for another (7 d|6 d 23 h)")
        self.assertTrue(second.startswith("b@x.test"))
        self.assertEqual(third, "no@x.test  file      for ever")
        status, out, err = await self.command("remove", "a@x.test", "no@x.test", "c@x.test")
        self.assertEqual((status, out), (1, "a@x.test\n"))
        self.assertEqual(
            err.splitlines(),
            ["dcrouter: no@x.test is in email.suppression of the file", "dcrouter: c@x.test is not suppressed"],
        )

    async def test_for_programs(self) -> None:
        """JSON, all pages."""
        self.patch(suppression, "PAGE", 2)
        names = [f"{name}@x.test" for name in "abcde"]
        self.assertEqual(json.loads((await self.command("add", *names, "--json"))[1]), {"addresses": names})
        _, out, _ = await self.command("--json")
        self.assertEqual([one["address"] for one in json.loads(out)], [*names, "no@x.test"])

    async def test_what_is_wrong_is_told(self) -> None:
        """A time, an address."""
        status, _, err = await self.command("add", "a@x.test", "--for", "soon")
        self.assertEqual(status, 1)
        self.assertIn("dcrouter: --for: ", err)
        self.assertEqual((await self.command("add", "here"))[2], "dcrouter: 'here' is not an address\n")

"""`dcrouter bans` in front of real bans, over the API."""

from __future__ import annotations

import json

from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from dcrouter.config.accounts import AuthFailures
from dcrouter.mail.server import bans
from dcrouter.mail.server.failures import Failures
from tests.support.commanded import Service, Socket


class BansTests(TestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.failures = Failures(AuthFailures(max=1, ban=600.0), self.clock.seconds)
        self.socket = Socket(self, Service(bans=lambda fields: bans.answered(self.failures, fields)))

    def ban(self, *addresses: str) -> None:
        for address in addresses:
            self.failures.failed(address, "a@x.test")
            self.clock.advance(1)

    async def run_command(self, *arguments: str) -> tuple[int, str, str]:
        """Exit status, standard output, standard error."""
        return await self.socket.run("bans", *arguments)

    async def test_bans_are_listed(self) -> None:
        """Addresses with the time that is left, the shortest first; IPv6 by networks; for programs as JSON."""
        self.assertEqual(await self.run_command("list"), (0, "nobody is banned\n", ""))
        self.ban("192.0.2.77", "2001:db8::1")
        status, out, _ = await self.run_command("list")
        self.assertEqual(
            (status, out.splitlines()),
            (0, ["192.0.2.77     for another 9 m 58 s", "2001:db8::/64  for another 9 m 59 s"]),
        )
        self.assertEqual((await self.run_command())[1], out)
        status, out, _ = await self.run_command("list", "--json")
        self.assertEqual(
            json.loads(out),
            [{"address": "192.0.2.77", "seconds": 598.0}, {"address": "2001:db8::/64", "seconds": 599.0}],
        )

    async def test_many_bans_are_listed_page_by_page(self) -> None:
        """All of them, each once."""
        self.patch(bans, "PAGE", 2)
        self.ban(*(f"192.0.2.{number}" for number in range(5)))
        _, out, _ = await self.run_command("--json")
        self.assertEqual([one["address"] for one in json.loads(out)], [f"192.0.2.{number}" for number in range(5)])

    async def test_one_ban_is_lifted(self) -> None:
        """As it is listed, or by any address of its network; the others stay."""
        self.ban("192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8:1::1")
        status, out, err = await self.run_command("clear", "192.0.2.1", "2001:db8::/64", "2001:db8:1::2")
        self.assertEqual((status, out, err), (0, "3 bans lifted\n", ""))
        self.assertEqual([address for address, _ in self.failures.listed()], ["192.0.2.2"])

    async def test_all_are_lifted(self) -> None:
        """Without an address."""
        self.ban("192.0.2.1", "192.0.2.2")
        self.assertEqual(await self.run_command("clear", "--json"), (0, '{"lifted": 2}\n', ""))
        self.assertEqual(self.failures.listed(), [])

    async def test_who_is_not_banned_is_told(self) -> None:
        """On standard error, with exit status 1; what else was named is lifted."""
        self.ban("192.0.2.2")
        status, out, err = await self.run_command("clear", "192.0.2.1", "here", "192.0.2.2")
        self.assertEqual((status, out), (1, "1 ban lifted\n"))
        self.assertEqual(
            err.splitlines(), ["dcrouter: 192.0.2.1 is not banned", "dcrouter: 'here' is not an IP address"]
        )

"""`dcrouter bans` in front of real bans, over the API."""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
from pathlib import Path
from shutil import rmtree
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from dcrouter.admin.api import Api
from dcrouter.admin.cli import main
from dcrouter.config.accounts import AuthFailures
from dcrouter.mail.server import bans
from dcrouter.mail.server.failures import Failures
from tests.support.operated import Operated


class Service:
    """What the API asks: the bans of a mail process."""

    def __init__(self) -> None:
        self.operations = Operated()
        self.clock = Clock()
        self.failures = Failures(AuthFailures(max=1, ban=600.0), self.clock.seconds)

    def status(self) -> Deferred[dict[str, Any]]:
        return succeed({"state": "ready"})

    def ask_mail(self, kind: str, fields: dict[str, Any]) -> Deferred[dict[str, Any]]:
        assert kind == "bans"
        return succeed(bans.answered(self.failures, fields))


class BansTests(TestCase):
    def setUp(self) -> None:
        base = Path(tempfile.mkdtemp())
        self.addCleanup(rmtree, base)
        self.path = base / "admin.sock"
        self.service = Service()
        api = Api(reactor, self.path, self.service)
        api.startService()
        self.addCleanup(api.stopService)

    def ban(self, *addresses: str) -> None:
        for address in addresses:
            self.service.failures.failed(address, "a@x.test")
            self.service.clock.advance(1)

    async def run_command(self, *arguments: str) -> tuple[int, str, str]:
        """Exit status, standard output, standard error."""
        out, err = io.StringIO(), io.StringIO()

        def work() -> int:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                return main(["bans", *arguments, "--socket", str(self.path)])

        status = await deferToThread(work)
        return status, out.getvalue(), err.getvalue()

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
        self.assertEqual([address for address, _ in self.service.failures.listed()], ["192.0.2.2"])

    async def test_all_are_lifted(self) -> None:
        """Without an address."""
        self.ban("192.0.2.1", "192.0.2.2")
        self.assertEqual(await self.run_command("clear", "--json"), (0, '{"lifted": 2}\n', ""))
        self.assertEqual(self.service.failures.listed(), [])

    async def test_who_is_not_banned_is_told(self) -> None:
        """On standard error, with exit status 1; what else was named is lifted."""
        self.ban("192.0.2.2")
        status, out, err = await self.run_command("clear", "192.0.2.1", "here", "192.0.2.2")
        self.assertEqual((status, out), (1, "1 ban lifted\n"))
        self.assertEqual(
            err.splitlines(), ["dcrouter: 192.0.2.1 is not banned", "dcrouter: 'here' is not an IP address"]
        )

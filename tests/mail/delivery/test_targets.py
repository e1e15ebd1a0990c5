"""Targets of rules that forward: checked, ejected, balanced; and what becomes of mail meanwhile."""

from __future__ import annotations

from typing import Any

from attrs import evolve
from twisted.trial.unittest import TestCase

from dcrouter.config.egress import EgressRule
from dcrouter.config.health import Health, Passive
from dcrouter.config.queue import Queue, Retry
from dcrouter.config.rules import MailForward, Rule, RuleMatch
from dcrouter.config.targets import SimpleTarget
from dcrouter.events import DeliveryDone
from tests.mail.delivery.test_egress import proxy
from tests.mail.house import House, in_thread, send
from tests.mail.nexthop import CUT, SILENT, ScriptedHop
from tests.support.certificates import Authority
from tests.support.facts import until
from tests.support.ports import reserved
from tests.support.proxies import Microsocks

CHECKED = Health(type="smtp", interval=0.1, timeout=20.0, rise=1, fall=1)
LATER = Queue(retry=Retry(base=3600.0, max=3600.0))
"""Mail that waits is woken, or stays."""


def rule(*ports: int, **more: Any) -> Rule:
    targets = tuple(SimpleTarget(host="127.0.0.1", port=port) for port in ports)
    return Rule(
        name="out",
        match=RuleMatch(recipients=("*@example.test",)),
        action=MailForward(targets=targets, **{"health": CHECKED, **more}),
    )


class TargetTests(TestCase):
    def health(self, house: House, port: int) -> str:
        return str(house.mta.status()["targets"]["out"][f"127.0.0.1:{port}"]["health"])

    async def sent(self, house: House) -> DeliveryDone:
        before = len(house.done)
        await in_thread(send, house.listen(), "b@example.test")
        await until(lambda: len(house.done) > before)
        return house.done[before]

    async def test_one_that_does_not_greet_gets_no_mail(self) -> None:
        """Silence, 554, a closed port: found by asking; the first target that is up gets all. Back again, it has its
        turn again, and the checks say QUIT.
        """
        sick, good = ScriptedHop(self, greeting="554 no"), ScriptedHop(self)
        house = House(self, rule(sick.port, good.port), queue=LATER)
        await until(lambda: self.health(house, sick.port) == "down" and self.health(house, good.port) == "up")
        done = await self.sent(house)
        self.assertEqual((done.outcome, done.target), ("delivered", f"127.0.0.1:{good.port}"))
        self.assertNotIn("MAIL", str(sick.commands))
        sick.script["greeting"] = "220 next"
        await until(lambda: self.health(house, sick.port) == "up")
        done = await self.sent(house)
        self.assertEqual(done.target, f"127.0.0.1:{sick.port}")
        await until(lambda: "QUIT" in good.commands)

    async def test_all_down(self) -> None:
        """The mail waits, without a connection for it, and is woken by the first check that is good."""
        hop = ScriptedHop(self, greeting=SILENT)
        house = House(self, rule(hop.port, health=evolve(CHECKED, timeout=0.2)), queue=LATER)
        await until(lambda: self.health(house, hop.port) == "down")
        done = await self.sent(house)
        self.assertEqual(done.outcome, "deferred")
        self.assertIn(f"no target is up (127.0.0.1:{hop.port} is down: check timeout)", done.reply)
        hop.script["greeting"] = "220 next"
        await until(lambda: hop.messages)

    async def test_tls_from_the_first_octet_on(self) -> None:
        """A target of the port of smtps is asked by TLS, and the certificate counts where it must."""
        authority = Authority()
        hop = ScriptedHop(self, tls=authority.credential(["localhost"]), implicit=True)
        from dcrouter.mail.delivery import nexthop

        self.patch(nexthop, "SMTPS_PORT", hop.port)
        house = House(self, rule(hop.port, tls="opportunistic"))
        await until(lambda: self.health(house, hop.port) == "up")
        ca = house.state / "ca"
        verified = rule(hop.port, tls="required", ca=ca)
        strict = House(self, verified, ca_files={str(ca): authority.root_pem})
        await until(lambda: self.health(strict, hop.port) == "down")
        told = strict.mta.status()["targets"]["out"][f"127.0.0.1:{hop.port}"]["reason"]
        self.assertIn("hostname mismatch", told)

    async def test_passive(self) -> None:
        """Failures of mail eject a target: later mail does not try it, until its time is over."""
        sick, good = ScriptedHop(self, greeting=CUT), ScriptedHop(self)
        passive = Health(passive=Passive(failures=2, within=60.0, eject=600.0))
        house = House(self, rule(sick.port, good.port, health=passive), queue=Queue(retry=Retry(base=0.05, max=1.0)))
        known = house.mta._attempts.destinations._known
        for _ in range(10):
            done = await self.sent(house)
            self.assertEqual((done.outcome, done.target), ("delivered", f"127.0.0.1:{good.port}"))
            if self.health(house, sick.port) == "ejected":
                break
            await until(lambda: not any(one.down for one in known.values()))
        self.assertEqual(self.health(house, sick.port), "ejected")
        seen = sick.connections
        await self.sent(house)
        self.assertEqual(sick.connections, seen)

    async def test_balance(self) -> None:
        """random-two and least-connections reach all targets that there are; a connect is check enough for `tcp`."""
        for balance in ("round-robin", "least-connections", "random-two"):
            hops = [ScriptedHop(self) for _ in range(3)]
            house = House(self, rule(*(hop.port for hop in hops), balance=balance, health=evolve(CHECKED, type="tcp")))
            for _ in range(60):
                await self.sent(house)
                if all(hop.messages for hop in hops):
                    break
            self.assertTrue(all(hop.messages for hop in hops), balance)
            await house.close()

    async def test_checks_go_the_way_of_mail(self) -> None:
        """Through the proxy; while that is down the target counts as down, and nobody connects to it straight."""
        hop, socks = ScriptedHop(self), Microsocks()
        self.addCleanup(socks.close)
        gone = House(self, rule(hop.port), egress=(EgressRule(through=(proxy(reserved(self)),)),), queue=LATER)
        await until(lambda: self.health(gone, hop.port) == "down")
        self.assertEqual(hop.connections, 0)
        asked = House(self, rule(hop.port), egress=(EgressRule(select="hooks:pick"),), queue=LATER)
        house = House(self, rule(hop.port), egress=(EgressRule(through=(proxy(socks.port),)),), queue=LATER)
        await until(lambda: self.health(house, hop.port) == "up")
        for one in (gone, house, asked):
            self.assertEqual(one.mta.status()["egress"]["direct"]["attempts"], 0)
        self.assertEqual(self.health(asked, hop.port), "unknown")

    async def test_reload(self) -> None:
        """What is known of a target stays by its name; a rule without `health` is checked no more."""
        sick = ScriptedHop(self, greeting="554 no")
        house = House(self, rule(sick.port), queue=LATER)
        await until(lambda: self.health(house, sick.port) == "down")

        def reload(*rules: Rule) -> None:
            config = evolve(house.config, email=evolve(house.email, rules=rules))
            house.mta.reload(house.mta.succession(config, {}), house.chooser, house.heard)

        other = ScriptedHop(self)
        reload(rule(sick.port, other.port, balance="round-robin"))
        self.assertEqual(self.health(house, sick.port), "down")
        await until(lambda: self.health(house, other.port) == "up")
        reload(rule(sick.port, health=None))
        seen = sick.connections
        self.assertEqual(house.mta.status()["targets"], {})
        await until(lambda: other.connections and not other.sessions)
        self.assertLessEqual(sick.connections, seen + 1)

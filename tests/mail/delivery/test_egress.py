"""`email.egress` at work: mail through real proxies and through none, and what becomes of it when they fail."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any, TypeVar

from attrs import evolve
from twisted.trial.unittest import TestCase

from dcrouter.config.egress import EgressMatch, EgressRule
from dcrouter.config.forms import HostPort, Secret
from dcrouter.config.queue import Queue, Retry
from dcrouter.config.rules import Deliver, MailForward, Rule, RuleMatch
from dcrouter.config.targets import SimpleTarget
from dcrouter.config.through import Proxy
from dcrouter.events import DeliveryDone
from dcrouter.mail.delivery.egress import proxies as module
from dcrouter.wire.tunnel import Scheme
from tests.mail.house import House, in_thread, send
from tests.mail.nexthop import CUT, ScriptedHop
from tests.net.endpoints.test_endpoints import Server
from tests.support.certificates import Authority
from tests.support.facts import until
from tests.support.ports import Reserved, reserved
from tests.support.programs import Program
from tests.support.proxies import Dante, Microsocks, Tinyproxy, TlsBefore
from tests.support.socks import Socks

P = TypeVar("P", bound=Program)

SOON = Queue(retry=Retry(base=0.1, max=0.2, jitter=0.0))


def proxy(port: int, scheme: Scheme = "socks5", user: str | None = None, password: str = "") -> Proxy:
    return Proxy(scheme=scheme, host="127.0.0.1", port=port, user=user, password=Secret(password))


def rule(*proxies: Proxy, match: EgressMatch | None = None, **more: Any) -> EgressRule:
    return EgressRule(match=match or EgressMatch(), through=proxies, **more)


class EgressTest(TestCase):
    def started(self, program: P) -> P:
        self.addCleanup(program.close)
        return program

    def house(self, *rules: EgressRule, to: int = 25, host: str = "127.0.0.1", **email: Any) -> House:
        """One that forwards to that port."""
        name = RuleMatch(recipients=("*@example.test",))
        out = Rule(name="out", match=name, action=MailForward(targets=(SimpleTarget(host=host, port=to),)))
        return House(self, *email.pop("rules", (out,)), egress=rules, queue=email.pop("queue", SOON), **email)

    async def sent(self, house: House, *recipients: str) -> list[DeliveryDone]:
        """The events of one message's first attempts."""
        recipients = recipients or ("b@example.test",)
        before = len(house.done)
        await in_thread(send, house.listen(), *recipients)
        await until(lambda: len(house.done) >= before + len(recipients))
        return house.done[before : before + len(recipients)]

    def counted(self, house: House) -> dict[str, Any]:
        counted: dict[str, Any] = house.mta.status()["egress"]
        return counted


class ThroughTests(EgressTest):
    async def test_through_each_kind_of_proxy(self) -> None:
        """SOCKS 5 and CONNECT, with logins, by name, IPv6, CONNECT by TLS; STARTTLS within. The access log and the
        counters say which proxy it was; the password is nowhere.
        """
        authority = Authority()
        credential = authority.credential(["localhost"])
        hop = ScriptedHop(self, tls=credential)
        six = ScriptedHop(self, address="::1", tls=credential)
        socks, http = self.started(Microsocks("me", "hush")), self.started(Tinyproxy("me", "hush"))
        outer = self.started(TlsBefore(http.port, "127.0.0.1"))
        from dcrouter.tls import profile

        self.patch(profile, "system_trust", lambda: outer.ca_pem)
        ways = (
            proxy(socks.port, "socks5", "me", "hush"),
            proxy(http.port, "http", "me", "hush"),
            proxy(outer.port, "https", "me", "hush"),
        )
        for way in ways:
            for host, target in (("localhost", hop), ("127.0.0.1", hop), ("::1", six)):
                house = self.house(rule(way), to=target.port, host=host)
                (done,) = await self.sent(house)
                self.assertEqual((done.outcome, done.through), ("delivered", str(way)), done)
                self.assertTrue((done.tls or "").startswith("TLSv1.3"))
                counted = self.counted(house)
                self.assertEqual(counted["direct"]["attempts"], 0)
                self.assertEqual(counted["proxies"][str(way)]["connected"], 1)
                self.assertNotIn("hush", str(house.mta.status()) + str(house.done))
                await house.close()

    async def test_dante(self) -> None:
        """Another implementation."""
        hop = ScriptedHop(self)
        dante = self.started(Dante())
        house = self.house(rule(proxy(dante.port)), to=hop.port)
        (done,) = await self.sent(house)
        self.assertEqual((done.outcome, done.through), ("delivered", f"socks5://127.0.0.1:{dante.port}"))

    async def test_a_proxy_and_a_server_by_ipv6(self) -> None:
        """Both on ::1; the server is named by its address."""
        hop, socks = ScriptedHop(self, address="::1"), Socks(self, interface="::1")
        way = evolve(proxy(socks.port), host="::1")
        house = self.house(rule(way), to=hop.port, host="::1")
        (done,) = await self.sent(house)
        self.assertEqual((done.outcome, done.through), ("delivered", f"socks5://[::1]:{socks.port}"))
        self.assertEqual(socks.asked, [("::1", hop.port)])

    async def test_recipients_of_one_message_go_their_own_ways(self) -> None:
        """A rule by recipient: the others go straight, in a connection of their own, and nobody's reply is mixed up."""
        hop = ScriptedHop(self, RCPT=lambda line: "550 5.1.1 who" if "bad" in line else "250 2.1.5 ok")
        socks = self.started(Microsocks())
        house = self.house(rule(proxy(socks.port), match=EgressMatch(recipient=("vip@*", "bad@*"))), to=hop.port)
        names = ("a@example.test", "vip@example.test", "bad@example.test", "c@example.test")
        done = await self.sent(house, *names)
        through = {one.recipient: (one.outcome, one.through) for one in done}
        socks_name = f"socks5://127.0.0.1:{socks.port}"
        self.assertEqual(
            through,
            {
                "a@example.test": ("delivered", None),
                "c@example.test": ("delivered", None),
                "vip@example.test": ("delivered", socks_name),
                "bad@example.test": ("failed", socks_name),
            },
        )
        self.assertEqual((hop.connections, len(hop.messages)), (2, 2))

    async def test_a_connection_is_not_used_for_mail_of_another_way(self) -> None:
        """Kept ones stay with their way: direct, proxy A, proxy B, each has its own, and uses it again."""
        hop = ScriptedHop(self)
        one, other = self.started(Microsocks()), self.started(Tinyproxy())
        house = self.house(
            rule(proxy(one.port), match=EgressMatch(recipient=("a@*",))),
            rule(proxy(other.port, "http"), match=EgressMatch(recipient=("b@*",))),
            to=hop.port,
        )
        for _ in range(2):
            for name in "abc":
                await self.sent(house, f"{name}@example.test")
        self.assertEqual(len(hop.messages), 6)
        self.assertEqual(hop.connections, 3)
        ways = [(done.recipient[0], (done.through or "direct").partition(":")[0]) for done in house.done]
        self.assertEqual(ways, [("a", "socks5"), ("b", "http"), ("c", "direct")] * 2)
        known = house.mta._attempts.destinations.passage.proxies._known.values()
        self.assertEqual([live.state.active for live in known], [1, 1])
        await house.close()
        await until(lambda: [live.state.active for live in known] == [0, 0])

    async def test_addresses_of_one_name_have_ways_of_their_own(self) -> None:
        """destination_ips: the proxy is told the address that was meant, and not the name."""
        hop = ScriptedHop(self)
        asked: list[bytes] = []

        def socks(session: Any, data: bytes) -> None:
            asked.append(data)
            session.transport.write(b"\x05\x00" if len(asked) == 1 else b"\x05\x05\x00\x01\0\0\0\0\0\0")

        fake = Server(self, greeting=b"", script=socks)
        match = EgressMatch(destination_ips=(ip_network("127.0.0.0/8"),))
        house = self.house(rule(proxy(fake.port), match=match), to=hop.port, host="localhost")
        (done,) = await self.sent(house)
        self.assertIn(hop.port.to_bytes(2, "big"), asked[1])
        self.assertEqual((done.outcome, hop.connections), ("deferred", 0))
        self.assertIn("through socks5://", done.reply)

    async def test_local_delivery_takes_no_part(self) -> None:
        """LMTP is spoken straight, whatever the rules say."""
        hop = ScriptedHop(self, lmtp=True, final=lambda line: "250 2.0.0 taken")
        place = HostPort("127.0.0.1", hop.port)
        out = Rule(name="out", match=RuleMatch(recipients=("*@example.test",)), action=Deliver(lmtp=place))
        house = self.house(rule(proxy(reserved(self))), rules=(out,))
        (done,) = await self.sent(house)
        self.assertEqual((done.outcome, done.through, len(hop.messages)), ("delivered", None, 1))


class FailureTests(EgressTest):
    async def test_defer_never_connects_straight(self) -> None:
        """The proxy is gone, refuses, closes, talks nonsense: mail waits, the far end is never seen; when there is a
        proxy again, the mail flows without being asked.
        """
        self.patch(module, "PROBE", 0.1)
        hop = ScriptedHop(self)
        own = Reserved()
        gone = own.port
        rude = Server(self, greeting=b"", script=lambda session, data: session.transport.loseConnection())
        nonsense = Server(self, greeting=b"SSH-2.0-OpenSSH\r\n")
        for port in (rude.port, nonsense.port, gone):
            house = self.house(rule(proxy(port)), to=hop.port)
            (done,) = await self.sent(house)
            self.assertEqual((done.outcome, hop.connections), ("deferred", 0), done)
            await until(lambda house=house: self.counted(house)["proxies"][f"socks5://127.0.0.1:{port}"]["failed"] >= 3)  # noqa: B023
            self.assertEqual(self.counted(house)["direct"]["attempts"], 0)
            if port != gone:
                await house.close()
        self.assertEqual(self.counted(house)["proxies"][f"socks5://127.0.0.1:{gone}"]["health"], "ejected")
        self.assertEqual(hop.connections, 0)
        back = self.started(Microsocks(own=own))
        await until(lambda: hop.messages)
        self.assertEqual(back.port, gone)
        self.assertEqual(self.counted(house)["direct"]["attempts"], 0)
        self.assertEqual(self.counted(house)["proxies"][f"socks5://127.0.0.1:{gone}"]["health"], "up")

    async def test_direct_by_choice_is_told(self) -> None:
        """on_failure: direct: the mail arrives, the log and the counters say that it went straight."""
        hop = ScriptedHop(self)
        house = self.house(rule(proxy(reserved(self)), on_failure="direct"), to=hop.port)
        (done,) = await self.sent(house)
        self.assertEqual((done.outcome, done.through, hop.connections), ("delivered", "direct", 1))
        counted = self.counted(house)
        self.assertEqual((counted["fallbacks"], counted["direct"]["connected"]), (1, 1))

    async def test_failover(self) -> None:
        """The next proxy where one does not work, or its rules forbid the target; the first one again when it does."""
        hop = ScriptedHop(self)
        good = self.started(Microsocks())
        house = self.house(rule(proxy(reserved(self)), proxy(good.port)), to=hop.port)
        (done,) = await self.sent(house)
        self.assertEqual((done.outcome, done.through), ("delivered", f"socks5://127.0.0.1:{good.port}"))
        forbids = self.started(Dante())
        other = ScriptedHop(self, address="127.0.0.99")
        house = self.house(rule(proxy(forbids.port), proxy(good.port)), to=other.port, host="127.0.0.99")
        (done,) = await self.sent(house)
        self.assertEqual((done.outcome, done.through), ("delivered", f"socks5://127.0.0.1:{good.port}"))
        counted = self.counted(house)["proxies"][f"socks5://127.0.0.1:{forbids.port}"]
        self.assertEqual((counted["health"], counted["failed"], counted["refused"]), ("up", 0, 1))

    async def test_a_target_that_is_down_is_not_the_proxys_fault(self) -> None:
        """Many refusals: the proxy is not ejected, no other is tried for it, and nothing goes straight."""
        socks, other = self.started(Microsocks()), self.started(Microsocks())
        house = self.house(rule(proxy(socks.port), proxy(other.port), on_failure="direct"), to=reserved(self))
        label = f"socks5://127.0.0.1:{socks.port}"
        (done,) = await self.sent(house)
        self.assertIn(f"through {label}: the target has refused the proxy's connection", done.reply)
        await until(lambda: self.counted(house)["proxies"][label]["refused"] >= 4)
        counted = self.counted(house)
        self.assertEqual((counted["proxies"][label]["health"], counted["proxies"][label]["failed"]), ("up", 0))
        self.assertEqual((counted["fallbacks"], counted["direct"]["attempts"]), (0, 0))
        self.assertEqual(counted["proxies"][f"socks5://127.0.0.1:{other.port}"]["attempts"], 0)

    async def test_balance(self) -> None:
        """round-robin: each in turn, with a connection each."""
        hop = ScriptedHop(self, QUIT=CUT, final="421 2.0.0 enough")
        one, other = self.started(Microsocks()), self.started(Microsocks())
        house = self.house(rule(proxy(one.port), proxy(other.port), balance="round-robin"), to=hop.port)
        await self.sent(house)
        await until(lambda: all(seen["connected"] >= 2 for seen in self.counted(house)["proxies"].values()))
        first, second = (seen["connected"] for seen in self.counted(house)["proxies"].values())
        self.assertLessEqual(abs(first - second), 1)

    async def test_reload_is_followed(self) -> None:
        """Other rules from the next connection on; what is known of a proxy that stays, stays."""
        hop = ScriptedHop(self)
        socks = self.started(Microsocks())
        house = self.house(rule(proxy(socks.port)), to=hop.port)
        label = f"socks5://127.0.0.1:{socks.port}"
        await self.sent(house)

        def reload(*rules: EgressRule) -> None:
            config = evolve(house.config, email=evolve(house.email, egress=rules))
            house.mta.reload(house.mta.succession(config, {}), house.chooser, house.heard)

        reload(rule(proxy(socks.port), match=EgressMatch(recipient=("x@*",))))
        (done,) = await self.sent(house)
        self.assertEqual((done.outcome, done.through), ("delivered", None))
        self.assertEqual(self.counted(house)["proxies"][label]["connected"], 1)
        reload()
        self.assertEqual(self.counted(house)["proxies"], {})

"""Mail by IPv6: sources of pools, exchangers without IPv4, the order of the resolver, SOCKS 5."""

from __future__ import annotations

from tests.support.exchanger import Exchanger
from tests.support.proxies import Microsocks
from tests.support.router import until
from tests.support.world import EMAIL, WorldCase

SIX, BOTH, OURS = "2001:db8::25", "2001:db8::26", "2001:db8::a"
MORE = """
  zones:
    default: {pool: main}
    only6: {pool: six, match: {recipients: ["*@only6.open"]}}
    free: {match: {recipients: ["*@both.open"]}}
  pools:
    main:
      - {address: "$ours", name: six.example.test, weight: 1000000}
      - {address: 127.0.3.1, name: four.example.test}
    six: [{address: "$ours", name: six.example.test}]
  egress:
    - {match: {recipient: "socks@*"}, through: ["socks5://127.0.0.1:$proxy"]}
"""


class Ipv6Tests(WorldCase):
    addresses = (f"{SIX}/128", f"{BOTH}/128", f"{OURS}/128")

    def test_mail_goes_by_ipv6(self) -> None:
        """From the pool's source of that family under its name, to a host with AAAA alone; to one with A alone from the
        other; so, too, where nobody listens at the AAAA (RFC 5321 5.1). Without a pool as `resolver` orders them. A
        proxy is told to connect by IPv6. A pool of IPv6 alone does not reach IPv4, and does once it can.
        """
        six, four = Exchanger(self, SIX), Exchanger(self, "127.0.1.1")
        both = Exchanger(self, BOTH), Exchanger(self, "127.0.1.2")
        self.dns.serve(
            [],
            [
                *("six MX 10 mx6", f"mx6 AAAA {SIX}", "four MX 10 mx4", "mx4 A 127.0.1.1", "only6 MX 10 mx4"),
                *("both MX 10 mxb", f"mxb AAAA {BOTH}", "mxb A 127.0.1.2"),
                *("half MX 10 mxh", f"mxh AAAA {OURS}", "mxh A 127.0.1.1"),
            ],
        )
        proxy = Microsocks()
        self.addCleanup(proxy.close)
        text = EMAIL.replace("timeout: 20s", "timeout: 20s, addresses: ipv6-first")
        router = self.router(MORE, text, proxy=proxy.port, ours=OURS)
        by_proxy = f"socks@[IPv6:{SIX}]"
        recipients = [*(f"b@{name}.open" for name in ("six", "four", "both", "half", "only6")), by_proxy]
        self.send(router, *recipients)
        lines = self.outcomes(router, *recipients)
        outcome = {who: line["outcome"] for who, line in lines.items()}
        self.assertEqual(outcome, dict.fromkeys(recipients, "delivered") | {"b@only6.open": "deferred"}, lines)
        (direct,) = six.to("b@six.open")
        self.assertEqual((direct.source, direct.name), (OURS, "six.example.test"))
        for who in ("b@four.open", "b@half.open"):
            (other,) = four.to(who)
            self.assertEqual((other.source, other.name), ("127.0.3.1", "four.example.test"), who)
        self.assertEqual([len(one.taken) for one in both], [1, 0])
        self.assertEqual(len(six.to(by_proxy)), 1)
        self.assertEqual(lines[by_proxy]["through"], f"socks5://127.0.0.1:{proxy.port}")
        self.assertIn("the hosts have no IPv6 address", lines["b@only6.open"]["reply"])
        router.write(text + MORE.replace("six: [", "six: [{address: 127.0.3.2, name: x.example.test}, "))
        self.assertTrue(router.reload()["ok"])
        until(lambda: four.to("b@only6.open"))
        self.assertEqual(four.to("b@only6.open")[0].source, "127.0.3.2")

"""TLS of the world as the whole service sees it: DANE by a validating named, MTA-STS by HTTPS, kept over its end."""

from __future__ import annotations

import os
import signal

from tests.support.exchanger import Exchanger
from tests.support.https import HttpsServer
from tests.support.router import until
from tests.support.signed import tlsa
from tests.support.world import POLICY, WEB, WorldCase


class WorldTlsTests(WorldCase):
    def test_dane(self) -> None:
        """RFC 7672: the key that DNSSEC names is enough, another one and no answer keep mail waiting, whatever an
        MTA-STS policy allows; nothing of it goes in clear. What is not signed promises nothing.
        """
        right, wrong = (self.stranger.credential([f"{name}.test"]) for name in ("right", "wrong"))
        names = ("right", "wrong", "bogus", "plain")
        hosts = {
            "right": Exchanger(self, "127.0.1.1", tls=right),
            "wrong": Exchanger(self, "127.0.1.2", tls=wrong),
            "bogus": Exchanger(self, "127.0.1.3"),
            "plain": Exchanger(self, "127.0.1.4"),
        }
        policies = HttpsServer(self, self.authority, [f"mta-sts.{name}.test" for name in names], WEB)
        signed = [f"mx{name} A 127.0.1.{number}" for number, name in enumerate(names, 1)]
        signed += [f"{name} MX 10 mx{name}" for name in names]
        for name in ("right", "wrong", "bogus"):
            signed += [f'_mta-sts.{name} TXT "v=STSv1; id=1"', f"mta-sts.{name} A {WEB}"]
            policies.pages[f"mta-sts.{name}.test/.well-known/mta-sts.txt"] = POLICY % ("none", "other.test")
        signed += [tlsa("mxright", right), tlsa("mxwrong", right), tlsa("mxbogus", right)]
        unsigned = ["unsigned MX 10 mx.open.", "mx A 127.0.1.4", tlsa("mx", right)]
        self.dns.serve(signed, unsigned, ["_25._tcp.mxbogus TLSA"])
        router = self.router()
        recipients = [f"b@{name}.test" for name in names] + ["b@unsigned.open"]
        self.send(router, *recipients)
        lines = self.outcomes(router, *recipients)
        outcome = {who: line["outcome"] for who, line in lines.items()}
        self.assertEqual(
            outcome,
            {
                "b@right.test": "delivered",
                "b@wrong.test": "deferred",
                "b@bogus.test": "deferred",
                "b@plain.test": "delivered",
                "b@unsigned.open": "delivered",
            },
        )
        self.assertRegex(lines["b@wrong.test"]["reply"], "4.7.5 .*DANE")
        self.assertRegex(lines["b@bogus.test"]["reply"], "4.7.5 mxbogus.test: its TLSA records cannot be had")
        self.assertEqual([one.tls is not None for one in hosts["right"].taken], [True])
        self.send(router, "b@bogus.test", "b@wrong.test")
        until(lambda: len(hosts["wrong"].sessions) >= 3)
        self.assertEqual((hosts["wrong"].taken, hosts["bogus"].sessions, policies.asked), ([], [], []))
        self.assertFalse([one for one in hosts["wrong"].commands if one.startswith(("MAIL", "RCPT", "DATA"))])

    def test_mta_sts(self) -> None:
        """RFC 8461: enforce, testing and none; what was fetched holds when its host and its record are gone and
        the mail process was killed.
        """
        good = self.authority.credential(["mx1.open"])
        proven = Exchanger(self, "127.0.1.1", tls=good)
        unproven = Exchanger(self, "127.0.1.2", tls=self.stranger.credential(["mx2.open"]))
        clear = Exchanger(self, "127.0.1.3")
        modes = {"enforced": 1, "strict": 2, "clear": 3, "testing": 2, "none": 3, "down": 3}
        policies = HttpsServer(self, self.authority, [f"mta-sts.{name}.open" for name in modes], WEB)
        hosts = [f"mx{number} A 127.0.1.{number}" for number in (1, 2, 3)]
        unsigned = hosts + [f"{name} MX 10 mx{number}" for name, number in modes.items()]
        announced = [f'_mta-sts.{name} TXT "v=STSv1; id=1"' for name in modes]
        announced += [f"mta-sts.{name} A {'127.0.2.9' if name == 'down' else WEB}" for name in modes]
        for name, number in modes.items():
            mode = name if name in ("testing", "none") else "enforce"
            policies.pages[f"mta-sts.{name}.open/.well-known/mta-sts.txt"] = POLICY % (mode, f"mx{number}.open")
        self.dns.serve([], unsigned + announced)
        router = self.router()
        recipients = [f"b@{name}.open" for name in modes]
        expected = dict.fromkeys(recipients, "delivered") | dict.fromkeys(("b@strict.open", "b@clear.open"), "deferred")
        self.send(router, *recipients)
        lines = self.outcomes(router, *recipients)
        self.assertEqual({who: line["outcome"] for who, line in lines.items()}, expected)
        self.assertRegex(lines["b@strict.open"]["reply"], "4.7.5")
        self.assertEqual([one.tls is not None for one in proven.taken], [True])
        self.assertEqual(len(policies.asked), len(modes) - 1)
        policies.close()
        self.dns.serve([], unsigned)
        router.expected.append("has died|died|again")
        before = router.pids()["mail"]
        os.kill(before, signal.SIGKILL)
        until(lambda: router.pids().get("mail") not in (None, before))
        until(lambda: (router.status() or {}).get("children", {}).get("mail", {}).get("state") == "ready")
        again = [who.replace("b@", "c@") for who in recipients]
        self.send(router, *again)
        lines = self.outcomes(router, *again)
        self.assertEqual({who.replace("c@", "b@"): lines[who]["outcome"] for who in again}, expected)
        self.assertFalse([one for one in clear.taken if {"b@clear.open", "c@clear.open"} & set(one.recipients)])
        self.assertEqual({one.recipients for one in unproven.taken}, {(f"{who}@testing.open",) for who in "bc"})

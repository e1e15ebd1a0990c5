"""Somebody sets the clock of the machine while mail waits: nothing hangs, nothing is given up, nothing comes early."""

from __future__ import annotations

import smtplib

from tests.support.clock import Clock
from tests.support.exchanger import Exchanger
from tests.support.router import until
from tests.support.world import EMAIL, WorldCase

HOUR, DAY = 3600, 86_400


class ClockTests(WorldCase):
    def test_mail_waits_as_long_as_it_should(self) -> None:
        """Three days back: a retry comes when it would have come, and what a sender has put off (RFC 4865) does not.
        Ten days on: that leaves, and what is waiting for a retry is neither given up nor forgotten.
        """
        clock = Clock(self, monotonic=False)
        self.environment.update(clock.environment)
        host = Exchanger(self, "127.0.1.1", RCPT="450 4.2.0 come again")
        other = Exchanger(self, "127.0.1.2")
        self.dns.serve([], ["x MX 10 mxx", "mxx A 127.0.1.1", "y MX 10 mxy", "mxy A 127.0.1.2"])
        text = EMAIL.replace("kind: smtp}", "kind: submission}") + "  require_tls: never\n"
        router = self.router(text=text, expected=["the clock was set"])
        self.send(router, "b@x.open")
        with smtplib.SMTP("127.0.0.1", router.ports["smtp"], timeout=30) as client:
            client.sendmail("a@local.test", ["b@y.open"], b"Subject: x\r\n\r\nx\r\n", [f"HOLDFOR={DAY}"])
        until(lambda: host.tally.began)
        clock.jump(-3 * DAY)
        until(lambda: router.said("the clock was set by -259200 s"))
        host.said["RCPT"] = "250 2.1.5 ok"
        until(lambda: host.taken)
        self.assertEqual(other.taken, [])
        host.said["RCPT"] = "450 4.2.0 come again"
        self.send(router, "c@x.open")
        before = len(host.tally.began)
        until(lambda: len(host.tally.began) > before)
        clock.jump(10 * DAY)
        until(lambda: other.taken)
        before = len(host.tally.began)
        until(lambda: len(host.tally.began) > before + 1)
        until(lambda: [one["recipient"] for one in router.queue()] == ["c@x.open"])
        host.said["RCPT"] = "250 2.1.5 ok"
        until(lambda: len(host.taken) == 2)
        until(lambda: not router.queue())

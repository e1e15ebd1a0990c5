"""How mail leaves, as the far end sees it: sources, what answers trigger, and limits that are kept and used."""

from __future__ import annotations

import smtplib
import time
from collections import Counter

from tests.support.exchanger import Exchanger, Session, Tally
from tests.support.router import Router, until
from tests.support.world import WorldCase

FIRST, SECOND = "127.0.3.1", "127.0.3.2"
REACTIONS = f"""
  zones:
    default: {{pool: main}}
    warming: {{pool: warming, messages_per_connection: 1, match: {{recipients: ["*@warmup.open"]}}}}
  pools:
    main: [{{address: {FIRST}, name: first.test, weight: 1000000}}, {{address: {SECOND}, name: second.test}}]
    warming:
      - {{address: {FIRST}, weight: 1000000, warmup: {{start: "2020-01-01", daily: [{", ".join("2" * 9000)}]}}}}
      - {{address: {SECOND}}}
  on_reply:
    - {{match: "re:(?i)blocked", action: rotate_source, for: 1h}}
    - {{match: "re:too fast", action: slow_down, to: 2/hour, for: 1h}}
    - {{match: "421 4.7.0", action: suspend, for: 1h}}
    - {{match: "450 4.7.1", action: bounce}}
"""
DAY = 86_400
ZONES, EACH = 6, 20
CONNECTIONS, COUNT = 2, 12
"""Of each second zone: connections at once; messages in an hour."""


class ShapingTests(WorldCase):
    def test_sources_and_what_answers_trigger(self) -> None:
        """A retry comes from where the first attempt came from; who blocks a source gets mail from the other one, and
        nobody else does; what is suspended is left alone until it is resumed; who is too fast slows down; what
        bounces is told of. A source that warms up sends its share, and the warm one what is more.
        """

        def once(reply: str) -> dict[str, object]:
            """It says so to the first recipient that it hears of."""
            said: list[str] = []

            def answer(session: Session, line: str) -> str:
                said.append(line)
                return reply if len(said) == 1 else "250 2.1.5 ok"

            return {"RCPT": answer}

        blocked = {"RCPT": lambda session, line: "250 ok" if session.source != FIRST else "550 5.7.1 blocked"}
        hosts = {
            "greylisted": once("450 4.2.0 come again"),
            "blocking": blocked,
            "suspended": once("421 4.7.0 go away"),
            "slow": once("450 4.5.3 too fast"),
            "bouncing": {"RCPT": "450 4.7.1 never"},
            "warmup": {},
        }
        far, zone = {}, []
        for number, (name, said) in enumerate(hosts.items(), 1):
            far[name] = Exchanger(self, f"127.0.1.{number}", **said)  # type: ignore[arg-type]
            zone += [f"{name} MX 10 mx{name}", f"mx{name} A 127.0.1.{number}"]
        self.dns.serve([], zone)
        until(lambda: time.time() % DAY < DAY - 300, 600, 1.0)  # a source that warms up has its mails by the day
        router = self.router(REACTIONS, expected=["rotate|slow_down|pause"])
        for name in hosts:
            self.send(router, f"b@{name}.open")
        for number in range(4):
            self.send(router, f"w{number}@warmup.open")
        greylisted = far["greylisted"]
        until(lambda: greylisted.taken)
        self.assertEqual([session.source for session in greylisted.sessions], [FIRST] * len(greylisted.sessions))
        until(lambda: far["blocking"].taken)
        self.send(router, "c@blocking.open", "c@greylisted.open")
        until(lambda: far["blocking"].to("c@blocking.open") and greylisted.to("c@greylisted.open"))
        self.assertEqual({one.source for one in far["blocking"].taken}, {SECOND})
        self.assertEqual([one.source for one in far["blocking"].sessions].count(FIRST), 1)
        self.assertEqual({one.source for one in greylisted.taken}, {FIRST})
        until(lambda: self.notices(router))
        (notice,) = self.notices(router)
        self.assertIn(b"b@bouncing.open", notice)
        until(lambda: far["slow"].taken)
        for number in range(4):
            self.send(router, f"s{number}@slow.open")
        late = "4.4.5 the rate of host mxslow.open:25 is reached"
        until(lambda: len([one for one in router.queue() if one["reply"] == late]) == 3)
        until(lambda: len(far["slow"].taken) == 2)
        self.assertEqual(router.command_line("queue", "resume", "host", "mxslow.open:25").returncode, 0)
        until(lambda: len(far["slow"].taken) == 5)
        until(lambda: len(far["warmup"].taken) == 5)
        self.assertEqual(Counter(one.source for one in far["warmup"].taken), {FIRST: 2, SECOND: 3})
        suspended = far["suspended"]
        self.send(router, "c@suspended.open")
        self.assertEqual((len(suspended.sessions), suspended.taken), (1, []))
        self.assertEqual(router.command_line("queue", "resume", "host", "mxsuspended.open:25").returncode, 0)
        until(lambda: len(suspended.taken) == 2)

    def notices(self, router: Router) -> list[bytes]:
        return [path.read_bytes() for path in (router.state / "maildir").glob("a@local.test/new/*")]

    def test_limits_of_many_zones_are_kept_and_used(self) -> None:
        """Each has as many connections at once as it may, to three hosts together, and never one more; none sends more
        than its rate, and each sends that much.
        """
        tallies = [Tally() for _ in range(ZONES)]
        zone, zones = [], []
        for number, tally in enumerate(tallies):
            slow = number % 2 == 0
            final = _slowly if slow else "250 ok"
            for host in range(3):
                Exchanger(self, f"127.0.{number + 1}.{host + 1}", tally=tally, final=final)
                zone += [
                    f"h{host}.z{number} MX 10 mx.h{host}.z{number}",
                    f"mx.h{host}.z{number} A 127.0.{number + 1}.{host + 1}",
                ]
            limit = f"connections: {CONNECTIONS}" if slow else f"rate: {COUNT}/hour"
            zones.append(f'    z{number}: {{{limit}, match: {{recipients: ["*@*.z{number}.open"]}}}}')
        self.dns.serve([], zone)
        router = self.router("  zones:\n" + "\n".join(zones) + "\n")
        with smtplib.SMTP("127.0.0.1", router.ports["smtp"], timeout=240) as client:
            for count in range(EACH):
                for number in range(ZONES):
                    client.sendmail(
                        "a@local.test", [f"b{count}@h{count % 3}.z{number}.open"], "Subject: x\r\n\r\nx\r\n"
                    )
        until(lambda: len(router.queue()) == (EACH - COUNT) * ZONES // 2)
        self.assertEqual([len(tally.began) for tally in tallies], [EACH, COUNT] * (ZONES // 2))
        self.assertEqual([tally.most for tally in tallies[::2]], [CONNECTIONS] * (ZONES // 2))


def _slowly(session: Session, line: str) -> str:
    time.sleep(0.05)
    return "250 2.0.0 taken"

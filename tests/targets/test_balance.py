from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from ipaddress import ip_network

from twisted.trial.unittest import SynchronousTestCase

from dcrouter.config.actions import Forward
from dcrouter.config.health import Health, Passive
from dcrouter.config.targets import Balance, Target, TargetMatch
from dcrouter.config.times import TimeWindow
from dcrouter.facts import ConnectionFacts
from dcrouter.proxy.state import State
from dcrouter.targets.addresses import Addresses
from dcrouter.targets.target import LiveTarget, Targets, places
from dcrouter.wire.http1.head import HeadReader, RequestHead


def facts(client: str = "192.0.2.1") -> ConnectionFacts:
    return ConnectionFacts("s", (client, 1), ("127.0.0.1", 80), 0.0)


def target(last: int, **keys: object) -> Target:
    return Target(host=f"10.0.0.{last}", port=80, **keys)  # type: ignore[arg-type]


class BalanceTest(SynchronousTestCase):
    def made(self, balance: Balance, *targets: Target, retries: int = 0, health: Health | None = None) -> Targets:
        self.state = State()
        action = Forward(targets=targets, balance=balance, retries=retries, health=health)
        return Targets("web", action, Addresses(), self.state)

    def named(self, targets: Sequence[LiveTarget]) -> list[int]:
        """The last numbers of their addresses."""
        return [int((one.host or "").rpartition(".")[2]) for one in targets]

    def picks(self, targets: Targets, count: int, client: str = "192.0.2.1", now: float = 0.0) -> list[int]:
        """The first of the order, so many times."""
        return [self.named(targets.order(facts(client), now))[0] for _ in range(count)]


class OrderTests(BalanceTest):
    def test_round_robin_goes_one_further_each_time(self) -> None:
        """And so do its retries."""
        targets = self.made("round-robin", target(1), target(2), target(3), retries=1)
        found = [self.named(targets.order(facts(), 0.0)) for _ in range(4)]
        self.assertEqual(found, [[1, 2], [2, 3], [3, 1], [1, 2]])

    def test_weights_are_dealt_out_smoothly(self) -> None:
        """As nginx does: the heavy one is never asked for all its turns at once."""
        targets = self.made("round-robin", target(1, weight=5), target(2), target(3))
        self.assertEqual(self.picks(targets, 14), [1, 1, 2, 1, 3, 1, 1] * 2)

    def test_a_target_that_is_down_leaves_its_share_to_the_others_by_weight(self) -> None:
        """Smoothly too."""
        targets = self.made(
            "round-robin", target(1, weight=3), target(2), target(3, weight=9), health=Health(type="tcp")
        )
        targets.all[2].state.missed(Health(type="tcp"), "refused", 1.0)
        self.assertEqual(Counter(self.picks(targets, 400)), {1: 300, 2: 100})

    def test_least_connections_counts_by_weight(self) -> None:
        """One connection on a target of weight 1 is as much as four on one of weight 4; equals take turns."""
        targets = self.made("least-connections", target(1), target(2, weight=4), retries=1)
        picked: Counter[int] = Counter()
        for _ in range(100):
            first = targets.order(facts(), 0.0)[0]
            first.state.enter()
            picked[self.named([first])[0]] += 1
        self.assertEqual(picked, {1: 20, 2: 80})
        for _ in range(80):
            targets.all[1].state.leave()
        self.assertEqual(self.picks(targets, 3), [2, 2, 2])

    def test_least_connections_of_idle_targets_take_turns(self) -> None:
        """Short connections, which are gone before the next one comes, do not all go to the first."""
        targets = self.made("least-connections", target(1), target(2), target(3))
        self.assertEqual(self.picks(targets, 6), [1, 2, 3, 1, 2, 3])

    def test_random_two_never_takes_the_busiest(self) -> None:
        """Of any two, the busier one loses; all the others have their share."""
        targets = self.made("random-two", target(1), target(2), target(3))
        for _ in range(5):
            targets.all[1].state.enter()
        picked = Counter(self.picks(targets, 600))
        self.assertEqual(set(picked), {1, 3})
        self.assertGreater(min(picked.values()), 150)

    def test_random_two_gives_the_whole_order(self) -> None:
        """Retries go to others, each once."""
        targets = self.made("random-two", target(1), target(2), target(3), target(4), retries=3)
        for _ in range(50):
            self.assertEqual(sorted(self.named(targets.order(facts(), 0.0))), [1, 2, 3, 4])

    def test_failover_is_the_order_of_the_file(self) -> None:
        """Always."""
        targets = self.made("failover", target(1), target(2), target(3), retries=5)
        self.assertEqual(self.named(targets.order(facts(), 0.0)), [1, 2, 3])
        self.assertEqual(self.picks(targets, 3), [1, 1, 1])

    def test_retries_bound_the_order(self) -> None:
        """One and `retries` others."""
        targets = self.made("round-robin", target(1), target(2), target(3), target(4), retries=2)
        self.assertEqual(len(targets.order(facts(), 0.0)), 3)

    def test_backups_come_last(self) -> None:
        """As far as retries reach; where all others are down, they come first, balanced among themselves."""
        health = Health(type="tcp")
        targets = self.made(
            "round-robin",
            target(1),
            target(8, backup=True),
            target(2),
            target(9, backup=True),
            retries=2,
            health=health,
        )
        self.assertEqual(self.named(targets.order(facts(), 0.0))[:2], [1, 2])
        self.assertIn(self.named(targets.order(facts(), 0.0))[2], (8, 9))
        for one in (targets.all[0], targets.all[2]):
            one.state.missed(health, "refused", 1.0)
        self.assertEqual(set(self.picks(targets, 4)), {8, 9})
        targets.all[0].state.passed(health, 2.0)
        targets.all[0].state.passed(health, 2.0)
        self.assertEqual(self.picks(targets, 3), [1, 1, 1])


class HashTests(BalanceTest):
    CLIENTS = tuple(f"10.{one}.{other}.7" for one in range(40) for other in range(50))

    def chosen(self, targets: Targets) -> dict[str, int]:
        return {client: self.picks(targets, 1, client)[0] for client in self.CLIENTS}

    def test_a_client_always_goes_to_the_same_target(self) -> None:
        """Also in another process, whatever the order of the targets in the file."""
        ones = self.chosen(self.made("hash-client-ip", target(1), target(2), target(3)))
        self.assertEqual(ones, self.chosen(self.made("hash-client-ip", target(3), target(1), target(2))))

    def test_shares_follow_the_weights(self) -> None:
        """Within what chance allows for 2000 clients."""
        counts = Counter(self.chosen(self.made("hash-client-ip", target(1), target(2, weight=3))).values())
        self.assertApproximates(counts[2] / len(self.CLIENTS), 0.75, 0.05)

    def test_only_the_clients_of_a_target_that_goes_down_move(self) -> None:
        """And they come back."""
        health = Health(type="tcp")
        targets = self.made("hash-client-ip", target(1), target(2), target(3), target(4), health=health)
        before = self.chosen(targets)
        targets.all[1].state.missed(health, "refused", 1.0)
        after = self.chosen(targets)
        moved = {client for client in self.CLIENTS if before[client] != after[client]}
        self.assertEqual(moved, {client for client, one in before.items() if one == 2})
        self.assertEqual({after[client] for client in moved}, {1, 3, 4})
        targets.all[1].state.passed(health, 2.0)
        targets.all[1].state.passed(health, 3.0)
        self.assertEqual(self.chosen(targets), before)

    def test_an_ipv6_client_is_its_network(self) -> None:
        """Privacy addresses change within a /64."""
        targets = self.made("hash-client-ip", *(target(last) for last in range(1, 9)))
        picked = {self.picks(targets, 1, f"2001:db8:1:2:{host:x}::1")[0] for host in range(1, 50)}
        self.assertEqual(len(picked), 1)


class HealthTests(BalanceTest):
    HEALTH = Health(type="tcp", rise=2, fall=3)

    def test_the_first_check_decides(self) -> None:
        """Up to then a target is taken for one that works."""
        for good in (True, False):
            targets = self.made("failover", target(1), health=self.HEALTH)
            state = targets.all[0].state
            self.assertEqual(state.status(0.0, checked=True)["health"], "unknown")
            self.assertEqual(len(targets.order(facts(), 0.0)), 1)
            changed = state.passed(self.HEALTH, 1.0) if good else state.missed(self.HEALTH, "refused", 1.0)
            self.assertTrue(changed)
            self.assertEqual(len(targets.order(facts(), 2.0)), int(good))

    def test_fall_and_rise_count_checks_in_a_row(self) -> None:
        """One good one in between, and it begins anew."""
        state = self.made("failover", target(1), health=self.HEALTH).all[0].state
        told = [self.check(state, good, at) for at, good in enumerate("+--+---+-++-")]
        self.assertEqual(told, [True, *[False] * 5, True, *[False] * 3, True, False])
        self.assertFalse(state.down)

    def check(self, state: object, good: str, at: float) -> bool:
        known = self.made("failover", target(1)).all[0].state.__class__
        assert isinstance(state, known)
        return state.passed(self.HEALTH, at) if good == "+" else state.missed(self.HEALTH, "refused", at)

    def test_a_target_that_is_down_says_why_and_since_when(self) -> None:
        """The last reason, and seconds."""
        state = self.made("failover", target(1), health=self.HEALTH).all[0].state
        state.missed(self.HEALTH, "Connection refused", 10.0)
        state.missed(self.HEALTH, "503 Service Unavailable", 20.0)
        said = state.status(30.0, checked=True)
        self.assertEqual((said["health"], said["for"], said["reason"]), ("down", 20.0, "503 Service Unavailable"))

    def test_nobody_is_up(self) -> None:
        """Then there is nothing to try, and the reason names them."""
        targets = self.made("round-robin", target(1), target(2), health=self.HEALTH)
        for one in targets.all:
            one.state.missed(self.HEALTH, "Connection refused", 1.0)
        self.assertEqual(list(targets.order(facts(), 2.0)), [])
        self.assertEqual(
            targets.why_none(facts()),
            "no target is up (10.0.0.1:80 is down: Connection refused, 10.0.0.2:80 is down: Connection refused)",
        )

    def test_failures_eject_for_a_while(self) -> None:
        """So many within so much time; older ones do not count, and after `eject` it is as if nothing had been."""
        passive = Passive(failures=3, within=10.0, eject=5.0)
        targets = self.made("failover", target(1), target(2), health=Health(passive=passive))
        first = targets.all[0]
        told = [targets.broken(first, "refused", at) for at in (0.0, 5.0, 11.0, 12.0)]
        self.assertEqual(told, [False, False, False, True])
        self.assertEqual(self.picks(targets, 1, now=16.9), [2])
        self.assertEqual(first.state.status(15.0, checked=False)["health"], "ejected")
        self.assertEqual(self.picks(targets, 1, now=17.0), [1])
        self.assertFalse(targets.broken(first, "refused", 18.0))
        self.assertEqual(first.state.failed, 5)

    def test_ejected_targets_are_tried_while_there_is_nothing_better(self) -> None:
        """Unlike those that a check has found down."""
        targets = self.made(
            "failover", target(1), target(2), health=Health(type="tcp", passive=Passive(failures=1)), retries=1
        )
        for one in targets.all:
            targets.broken(one, "refused", 0.0)
        self.assertEqual(self.named(targets.order(facts(), 1.0)), [1, 2])
        targets.all[0].state.missed(self.HEALTH, "refused", 1.0)
        self.assertEqual(self.named(targets.order(facts(), 1.0)), [2])

    def test_what_was_learnt_outlives_the_route(self) -> None:
        """A target that is bound anew is as down, as busy and as far in its turn as it was; without checks it is up."""
        before = self.made("round-robin", target(1), target(2), health=self.HEALTH)
        before.all[0].state.missed(self.HEALTH, "refused", 1.0)
        before.all[1].state.enter()
        again = Forward(targets=(target(2), target(1)), retries=1, health=self.HEALTH)
        after = Targets("web", again, Addresses(), self.state)
        self.assertEqual(self.named(after.order(facts(), 2.0)), [2])
        self.assertEqual(after.all[0].state.active, 1)
        unchecked = Targets("web", Forward(targets=(target(1), target(2)), retries=1), Addresses(), self.state)
        self.assertEqual(len(unchecked.order(facts(), 2.0)), 2)


class MatchTests(BalanceTest):
    def head(self, *fields: str, path: str = "/", method: str = "GET") -> RequestHead:
        head = HeadReader().feed("\r\n".join([f"{method} {path} HTTP/1.1", "Host: a.test", *fields, "", ""]).encode())
        assert head is not None
        return head

    def wanted(self, targets: Targets, head: RequestHead | None = None, client: str = "192.0.2.1") -> list[int]:
        return sorted(self.named(targets.order(facts(client), 0.0, head)))

    def test_a_match_that_holds_narrows_the_list(self) -> None:
        """To all targets that are meant in this way; others get what none of them is for."""
        v2 = TargetMatch(headers={"X-Api-Version": "v2"})
        targets = self.made("failover", target(1), target(2, match=v2), target(3), target(4, match=v2), retries=9)
        self.assertEqual(self.wanted(targets, self.head("x-api-version: v2")), [2, 4])
        self.assertEqual(self.wanted(targets, self.head("x-api-version: v1")), [1, 3])
        self.assertEqual(self.wanted(targets), [1, 3])

    def test_each_condition(self) -> None:
        """All of one match hold together."""
        match = TargetMatch(
            client_ips=(ip_network("10.0.0.0/8"),), methods=("GET", "HEAD"), path=("/v1/**",), headers={"x": "re:a.c"}
        )
        targets = self.made("failover", target(1), target(2, match=match))
        for expected, client, head in (
            (2, "10.1.1.1", self.head("x: abc", path="/v1/users")),
            (1, "192.0.2.1", self.head("x: abc", path="/v1/users")),
            (1, "10.1.1.1", self.head("x: abc", path="/v2/users")),
            (1, "10.1.1.1", self.head("x: abc", path="/v1/users", method="POST")),
            (1, "10.1.1.1", self.head("x: abcd", path="/v1/users")),
            (1, "10.1.1.1", self.head(path="/v1/users")),
        ):
            self.assertEqual(self.wanted(targets, head, client), [expected])

    def test_a_path_that_can_be_read_in_two_ways_fits_in_both_or_not(self) -> None:
        """Servers that disagree about it must not be told apart by it."""
        targets = self.made("failover", target(1), target(2, match=TargetMatch(path=("/admin/**",))))
        self.assertEqual(self.wanted(targets, self.head(path="/admin/x")), [2])
        self.assertEqual(self.wanted(targets, self.head(path="/admin/..;/x")), [1])

    def test_hours(self) -> None:
        """By the clock of a zone."""
        always = TargetMatch(time=TimeWindow())
        self.assertEqual(self.wanted(self.made("failover", target(1), target(2, match=always))), [2])

    def test_nobody_is_meant(self) -> None:
        """Where no target is for all, and none for this."""
        targets = self.made("failover", target(1, match=TargetMatch(headers={"x": "y"})))
        self.assertEqual(self.wanted(targets, self.head()), [])
        self.assertEqual(targets.why_none(facts(), self.head()), "no target is for this (match)")

    def test_targets_that_are_meant_and_down_are_not_replaced_by_others(self) -> None:
        """What asks for version 2 is no better off with version 1; a backup for it is."""
        health, v2 = Health(type="tcp"), TargetMatch(headers={"v": "2"})
        targets = self.made(
            "failover",
            target(1),
            target(2, match=v2),
            target(3, match=v2, backup=True),
            target(4, backup=True),
            retries=9,
            health=health,
        )
        asked = self.head("v: 2")
        self.assertEqual(self.named(targets.order(facts(), 0.0, asked)), [2, 3])
        targets.all[1].state.missed(health, "refused", 0.0)
        self.assertEqual(self.wanted(targets, asked), [3])
        targets.all[2].state.missed(health, "refused", 0.0)
        self.assertEqual(self.wanted(targets, asked), [])
        self.assertEqual(
            targets.why_none(facts(), asked),
            "no target is up (10.0.0.2:80 is down: refused, 10.0.0.3:80 is down: refused)",
        )
        self.assertEqual(self.wanted(targets, self.head()), [1, 4])


class PlaceTests(SynchronousTestCase):
    def test_families_take_turns(self) -> None:
        """Beginning with the one that the resolver has put first; at most four."""
        found = places(["10.0.0.1", "10.0.0.2", "10.0.0.3", "2001:db8::1"], 80, "a.test")
        self.assertEqual(
            [one.label for one in found], ["10.0.0.1:80", "[2001:db8::1]:80", "10.0.0.2:80", "10.0.0.3:80"]
        )
        found = places(["2001:db8::1", "2001:db8::2", "10.0.0.1", "10.0.0.2", "10.0.0.3"], 80, "a.test")
        self.assertEqual([":" in one.address[0] for one in found], [True, False, True, False])
        self.assertEqual(places([], 80, "a.test"), [])

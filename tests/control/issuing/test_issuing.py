"""Orders of the parent, against a CA in this process that misbehaves as told; the clock is the test's."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from shutil import copytree, rmtree
from typing import Any

from attrs import evolve
from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from dcrouter.config.acme import Acme, AcmeKeyType
from dcrouter.control.issuing import directories
from dcrouter.control.issuing.issuing import Issuing
from dcrouter.control.issuing.kept import Kept
from dcrouter.tls import renewal
from dcrouter.tls.credential import PrivateKey
from dcrouter.tls.keys import fresh_key
from tests.support.acmeca import CUT, SILENT, AcmeCa, problem
from tests.support.facts import until
from tests.support.logged import logged
from tests.tls.acme.solvers import Failing, Remembering, Stuck

WWW, MAIL = "www.example.test", "mail.example.test"
DAY = 86400.0


async def fresh(name: str, key_type: AcmeKeyType) -> PrivateKey:
    return fresh_key(key_type)


class IssuingCase(TestCase):
    def setUp(self) -> None:
        self.now = time.time()
        self.directory = Path(tempfile.mkdtemp())
        self.addCleanup(rmtree, self.directory)
        self.ca = AcmeCa(self)
        self.events = logged(self)
        self.issued = 0
        self.solvers: dict[str, Any] = {"tls-alpn-01": Remembering(), "http-01": Remembering()}

    def acme(self, *directories: str, **keys: Any) -> Acme:
        first, *rest = directories or (self.ca.url,)
        path = self.directory / "ca.pem"
        path.write_bytes(self.ca.trust)
        return Acme(directory=first, fallback=tuple(rest), ca_file=path, **keys)

    def issuing(self, *names: str, acme: Acme | None = None, start: bool = True) -> Issuing:
        """One that has read what is on disk, and begun."""

        def issued() -> None:
            self.issued += 1

        kept = Kept(self.directory, lambda: self.now)
        kept.load()
        made = Issuing(
            reactor,
            kept,
            issued,
            lambda acme: self.solvers,
            fresh,
            clock=lambda: self.now,
            chance=lambda: 0.5,
        )
        self.addCleanup(made.stop)
        made.use(acme or self.acme(), names)
        if start:
            made.start()
        return made

    def said(self, words: str) -> list[dict[str, Any]]:
        return [event for event in self.events if words in str(event.get("log_format"))]

    async def idle(self, issuing: Issuing) -> None:
        """Every order that was begun has ended."""
        await until(lambda: not issuing.running)

    async def have(self, issuing: Issuing, *names: str) -> None:
        await until(lambda: set(names) <= set(issuing.kept.credentials) and not issuing.running)


class OrderTests(IssuingCase):
    async def test_every_name_gets_its_own(self) -> None:
        """Nothing is asked before the start; what is there is told of, and kept across a restart."""
        issuing = self.issuing(WWW, MAIL, start=False)
        self.assertEqual(self.ca.asked, [])
        issuing.start()
        await self.have(issuing, WWW, MAIL)
        self.assertEqual(sorted(one.names for one in issuing.credentials()), [(MAIL,), (WWW,)])
        self.assertEqual(self.issued, 2)
        await issuing.stop()
        orders = self.ca.kinds().count("order")
        again = self.issuing(WWW, MAIL)
        self.assertEqual({one.id for one in again.credentials()}, {one.id for one in issuing.credentials()})
        await self.idle(again)
        self.assertEqual(self.ca.kinds().count("order"), orders)

    async def test_one_account_for_all(self) -> None:
        """And for all times: its key is kept."""
        issuing = self.issuing(WWW)
        await self.have(issuing, WWW)
        await issuing.stop()
        again = self.issuing(WWW, MAIL)
        await self.have(again, MAIL)
        made = [one for one in self.ca.payloads("account") if "termsOfServiceAgreed" in one]
        self.assertEqual(len(made), 1)

    async def test_a_name_that_fails_harms_no_other(self) -> None:
        """It waits, the reason is told, and is there after a restart too."""

        def refuse(asked: Any) -> Any:
            names = [one["value"] for one in asked.payload["identifiers"]] if asked.payload else []
            return problem("rejectedIdentifier", "not that one") if MAIL in names else None

        self.ca.behave("order", refuse, times=20)
        issuing = self.issuing(MAIL, WWW)
        await self.have(issuing, WWW)
        await self.idle(issuing)
        self.assertNotIn(MAIL, issuing.kept.credentials)
        record = issuing.kept.record(MAIL)
        self.assertEqual((record.failures, record.until), (1, self.now + renewal.FIRST_WAIT))
        self.assertIn("not that one", record.error)
        self.assertIn("not that one", self.said("no certificate")[0]["problem"])
        await issuing.stop()
        again = self.issuing(MAIL, WWW)
        self.assertEqual(again.due(MAIL), record.until)
        self.now = record.until
        again.look()
        await until(lambda: again.kept.record(MAIL).failures == 2)
        self.assertEqual(again.kept.record(MAIL).until, self.now + renewal.FIRST_WAIT * renewal.FACTOR)

    async def test_what_is_killed_in_an_order_has_failed(self) -> None:
        """Another instance finds it so on disk, and does not begin at once what may have killed the one before."""
        self.solvers = {"http-01": Stuck()}
        issuing = self.issuing(WWW)
        await until(lambda: self.solvers["http-01"].shown)
        other = Kept(self.directory, lambda: self.now)
        other.load()
        self.assertEqual(other.record(WWW).failures, 1)
        self.assertEqual(other.record(WWW).until, self.now + renewal.FIRST_WAIT)
        self.assertEqual(len(other.directory(self.ca.url).orders), 1)
        await issuing.stop()
        self.assertEqual(self.solvers["http-01"].shown, {})
        other = Kept(self.directory, lambda: self.now)
        other.load()
        self.assertEqual(other.record(WWW).failures, 0, "an orderly end is no failure")

    async def test_a_kill_in_every_phase(self) -> None:
        """What a crash leaves on disk at each request of an order: the next life waits, then has its certificate."""
        for kind in ("directory", "nonce", "account", "order", "authorization", "challenge", "finalize", "certificate"):
            self.directory = self.directory / "next"
            self.directory.mkdir()
            self.ca.asked.clear()
            self.ca.behave(kind, SILENT)
            killed = self.issuing(WWW)
            await until(lambda kind=kind: kind in self.ca.kinds())
            left = self.directory.parent / f"left-{kind}"
            copytree(self.directory, left)
            await killed.stop()
            self.directory = left
            again = self.issuing(WWW)
            record = again.kept.record(WWW)
            self.assertEqual((record.failures, record.until), (1, self.now + renewal.FIRST_WAIT), kind)
            self.assertEqual(again.running, {})
            self.now = record.until
            again.look()
            await self.have(again, WWW)
            self.assertEqual(again.kept.record(WWW).failures, 0)
            await again.stop()

    async def test_names_that_nobody_wants_any_more(self) -> None:
        """Their orders end, and what was shown is put away; the others go on."""
        self.solvers = {"http-01": Stuck()}
        issuing = self.issuing(WWW, MAIL)
        await until(lambda: len(self.solvers["http-01"].shown) == 2)
        issuing.want([MAIL])
        await until(lambda: [name for name, _ in self.solvers["http-01"].shown] == [MAIL])
        await until(lambda: list(issuing.running) == [MAIL])

    async def test_another_challenge_after_a_failure(self) -> None:
        """What has failed is not tried for ever; a solver that cannot present leaves it to the next at once."""
        self.solvers = {"tls-alpn-01": Failing(), "http-01": Remembering()}
        issuing = self.issuing(WWW)
        await self.have(issuing, WWW)
        record = issuing.kept.record(MAIL)
        self.solvers["tls-alpn-01"] = Remembering()
        self.ca.behave("challenge", problem("connection", "refused"))
        issuing.want([WWW, MAIL])
        await until(lambda: record.failures == 1 and not issuing.running)
        self.assertEqual([what for what, _ in self.solvers["tls-alpn-01"].log], ["present", "cleanup"])
        self.now = record.until
        issuing.look()
        await self.have(issuing, MAIL)
        self.assertIn(("present", MAIL), self.solvers["http-01"].log)
        self.assertEqual((record.kind, record.failures), ("http-01", 0))
        issuing.renew_now(MAIL)
        await self.idle(issuing)
        self.assertEqual(len(self.solvers["tls-alpn-01"].log), 2, "what has worked is tried first")

    async def test_a_disk_that_cannot_be_written(self) -> None:
        """Nothing is ordered that could not be kept; the operator is told."""
        (self.directory / "acme").write_text("in the way")
        issuing = self.issuing(WWW)
        await self.idle(issuing)
        self.assertTrue(self.said("no order"))
        self.assertIn(f"{self.directory / 'acme'}: File exists", issuing.kept.record(WWW).error)
        self.assertEqual(self.ca.asked, [])
        self.assertGreater(issuing.due(WWW), self.now)
        issuing.renew_now(WWW)
        issuing.want([])


class DirectoryTests(IssuingCase):
    async def test_the_next_directory_when_the_first_cannot_be_had(self) -> None:
        """It rests meanwhile, longer each time, and the name is not to blame."""
        down = AcmeCa(self)
        await down.close()
        issuing = self.issuing(WWW, acme=self.acme(down.url, self.ca.url))
        await self.have(issuing, WWW)
        self.assertEqual(issuing.kept.record(WWW).directory, self.ca.url)
        found = issuing.kept.directory(down.url)
        self.assertGreater(found.until, self.now)
        self.assertIn("Connection was refused", found.error)

    async def test_nobody_can_be_had(self) -> None:
        """Names wait for the directory, without a failure of their own; then they get theirs."""
        self.ca.behave("directory", CUT, times=2)
        issuing = self.issuing(WWW)
        await until(lambda: issuing.directories.rest_until())
        await self.idle(issuing)
        self.assertEqual(issuing.kept.record(WWW).failures, 0)
        self.now = issuing.directories.rest_until()
        issuing.look()
        await self.have(issuing, WWW)
        self.assertEqual(issuing.kept.directory(self.ca.url).failures, 0)

    async def test_retry_after_is_kept(self) -> None:
        """A limit of the account holds for all names, and across a restart; one of a name for that name."""
        self.ca.behave("order", problem("rateLimited", "too many new orders", 429, "7200"))
        issuing = self.issuing(WWW)
        await until(lambda: issuing.directories.rest_until())
        await self.idle(issuing)
        self.assertEqual(issuing.directories.rest_until(), self.now + 7200)
        await issuing.stop()
        again = self.issuing(WWW, MAIL)
        self.assertEqual(again.directories.rest_until(), self.now + 7200)
        self.assertEqual(again.running, {})
        self.now += 7200
        self.ca.behave("order", problem("rateLimited", f"too many failed authorizations for {MAIL}", 429, "900"))
        again.want([MAIL])
        await until(lambda: again.kept.record(MAIL).failures == 1 and not again.running)
        self.assertEqual(again.directories.rest_until(), 0.0)
        self.assertEqual(again.due(MAIL), self.now + 900)

    async def test_orders_are_paced(self) -> None:
        """However many names there are, and whatever happened to the process."""
        issuing = self.issuing(WWW)
        await self.have(issuing, WWW)
        found = issuing.kept.directory(self.ca.url)
        self.assertEqual(found.orders, [self.now])
        found.orders = [self.now] * directories.ORDERS
        issuing.want([WWW, MAIL])
        await until(lambda: MAIL in issuing.running)
        before = self.ca.kinds().count("order")
        self.now += directories.PERIOD
        await self.have(issuing, MAIL)
        self.assertGreater(self.ca.kinds().count("order"), before)


class RenewalTests(IssuingCase):
    async def test_after_a_share_of_the_lifetime(self) -> None:
        """Where the authority names no window; it replaces the one before, which serves until then."""
        issuing = self.issuing(WWW)
        await self.have(issuing, WWW)
        first, record = issuing.kept.credentials[WWW], issuing.kept.record(WWW)
        begin = first.certificates()[0].not_valid_before_utc.timestamp()
        share = 0.67 * (1 - renewal.SPREAD / 2)
        self.assertAlmostEqual(record.renew, begin + (first.not_after - begin) * share, places=3)
        self.now = record.renew - 1
        issuing.look()
        self.assertEqual(issuing.running, {})
        self.now = record.renew
        issuing.look()
        await until(lambda: issuing.kept.credentials[WWW].id != first.id and not issuing.running)
        self.assertEqual(len(self.said("{what} by {directory}")), 2)

    async def test_in_the_window_that_the_authority_names(self) -> None:
        """Which is asked for again, may have moved, and is told of in the order; one that is over already is followed,
        but not in a loop.
        """
        window = {"start": "2001-01-01T00:00:00Z", "end": "2001-01-02T00:00:00Z"}
        issuing = self.issuing(WWW)
        await self.have(issuing, WWW)
        first, record = issuing.kept.credentials[WWW], issuing.kept.record(WWW)
        await until(lambda: record.ask_again > self.now + 1)
        self.ca.renewal = {"suggestedWindow": window, "explanationURL": "https://ca.test/why"}
        await issuing.stop()
        again = self.issuing(WWW)  # which asks for the directory anew
        self.now = again.kept.record(WWW).ask_again
        again.look()
        await until(lambda: again.kept.credentials[WWW].id != first.id and not again.running)
        await until(lambda: again.kept.record(WWW).window is not None)
        self.assertEqual(again.due(WWW), again.kept.record(WWW).issued + 3600)
        orders = [one for one in self.ca.payloads("order") if one]
        self.assertEqual(["replaces" in one for one in orders], [False, True])
        self.assertEqual(self.said("why it is renewed")[0]["url"], "https://ca.test/why")

    async def test_it_is_told_when_it_gets_late(self) -> None:
        """Once at half of the time, once at nine tenths; the certificate serves on."""
        issuing = self.issuing(WWW)
        await self.have(issuing, WWW)
        held, record = issuing.kept.credentials[WWW], issuing.kept.record(WWW)
        self.ca.behave("order", problem("serverInternal", "tired", 500), times=100)
        for share, level in ((0.4, None), (0.51, "warn"), (0.6, None), (0.91, "error"), (0.95, None)):
            self.events.clear()
            self.now = record.renew + (held.not_after - record.renew) * share
            issuing.look()
            await self.idle(issuing)
            told = self.said("could not be renewed since")
            self.assertEqual([event["log_level"].name for event in told], [level] if level else [], share)
            for event in told:
                self.assertIn("tired", event["problem"], "the last reason, and not that an order is under way")
        self.assertEqual(issuing.credentials(), (held,))

    async def test_another_directory(self) -> None:
        """Certificates of one that is not asked any more are ordered anew, and serve until then."""
        issuing = self.issuing(WWW)
        await self.have(issuing, WWW)
        first = issuing.kept.credentials[WWW]
        other = AcmeCa(self)
        both = self.directory / "both.pem"
        both.write_bytes(self.ca.trust + other.trust)
        issuing.use(evolve(self.acme(), directory=other.url, ca_file=both), [WWW])
        self.assertEqual(issuing.credentials(), (first,))
        await until(lambda: issuing.kept.record(WWW).directory == other.url and not issuing.running)

    async def test_at_the_operators_word(self) -> None:
        """Whatever was waited for."""
        issuing = self.issuing(WWW)
        await self.have(issuing, WWW)
        first = issuing.kept.credentials[WWW]
        issuing.renew_now(WWW)
        await until(lambda: issuing.kept.credentials[WWW].id != first.id and not issuing.running)


class DemandTests(IssuingCase):
    async def test_a_name_that_a_client_asked_for(self) -> None:
        """Is as good as any other, also in another life; before its renewal it is asked for."""
        issuing = self.issuing(WWW)
        issuing.demand(MAIL)
        await self.have(issuing, WWW, MAIL)
        await issuing.stop()
        again = self.issuing(WWW)
        self.assertEqual(list(again.names), [WWW, MAIL])
        asked: list[str] = []

        async def may(name: str) -> bool:
            asked.append(name)
            return False

        again.may_renew = may
        held = again.kept.credentials[MAIL]
        again.renew_now(MAIL)
        await until(lambda: MAIL not in again.kept.credentials)
        self.assertEqual((asked, list(again.names)), ([MAIL], [WWW]))
        self.assertNotIn(held, again.credentials())

    async def test_one_that_a_route_spells_out_later(self) -> None:
        """Is like the others from then on."""
        issuing = self.issuing(WWW)
        issuing.demand(MAIL)
        await self.have(issuing, MAIL)
        issuing.want([WWW, MAIL])
        self.assertFalse(issuing.kept.record(MAIL).on_demand)
        issuing.want([WWW])
        self.assertEqual(list(issuing.names), [WWW])


class WildcardTests(IssuingCase):
    async def test_one_for_all(self) -> None:
        """A name that a wildcard serves is not ordered, and what it had is not shown any more."""
        self.solvers = {"http-01": Remembering(), "dns-01": Remembering()}
        issuing = self.issuing(WWW)
        await self.have(issuing, WWW)
        issuing.want([WWW, MAIL, "*.example.test"])
        await self.have(issuing, "*.example.test")
        issuing.look()
        self.assertEqual(issuing.running, {})
        self.assertNotIn(MAIL, issuing.kept.credentials)
        self.assertEqual([one.names for one in issuing.credentials()], [("*.example.test",)])
        self.now = issuing.kept.record(WWW).renew
        self.assertEqual(issuing.due(WWW), float("inf"))

    async def test_one_that_fails_leaves_them_to_themselves(self) -> None:
        """Each name gets its own then."""
        self.solvers = {"http-01": Remembering(), "dns-01": Failing()}
        issuing = self.issuing(WWW, "*.example.test")
        await self.have(issuing, WWW)
        self.assertGreater(issuing.kept.record("*.example.test").failures, 0)

"""What the operator sees of automatic certificates, and does with them."""

from __future__ import annotations

from twisted.internet import reactor

from dcrouter.control.issuing.desk import Desk
from dcrouter.control.issuing.issuing import AT_ONCE
from tests.control.issuing.test_issuing import MAIL, WWW, IssuingCase
from tests.support.acmeca import problem
from tests.support.facts import until
from tests.tls.acme.solvers import Stuck


class DeskTests(IssuingCase):
    async def test_what_there_is_and_what_is_to_come(self) -> None:
        """A name that has none yet stands there with its reason and its next try."""

        def refuse(asked: object) -> object:
            payload = getattr(asked, "payload", None)
            return problem("rejectedIdentifier", "not that one") if payload and MAIL in str(payload) else None

        self.ca.behave("order", refuse, times=20)  # type: ignore[arg-type]
        issuing = self.issuing(WWW, MAIL)
        await self.have(issuing, WWW)
        await self.idle(issuing)
        mail, www = Desk(issuing, reactor).listed()
        self.assertEqual((mail.names, mail.source, mail.not_after, mail.issuer), ((MAIL,), "acme", None, None))
        self.assertIn("not that one", mail.last_error or "")
        self.assertEqual(mail.back_off_until, issuing.kept.record(MAIL).until)
        self.assertEqual((www.names, www.key, www.issuer), ((WWW,), "ecdsa-p256", "test intermediate"))
        self.assertEqual(www.next_renewal, issuing.kept.record(WWW).renew)
        self.assertEqual((www.last_error, www.back_off_until), (None, None))
        issuing.want([WWW])
        self.assertEqual([one.names for one in Desk(issuing, reactor).listed()], [(WWW,)])

    async def test_nothing_without_a_directory(self) -> None:
        """Where certificates.acme is gone nothing that it has brought is shown to clients, and what is, is listed."""
        issuing = self.issuing(WWW)
        await self.have(issuing, WWW)
        issuing.use(None, ())
        self.assertEqual(list(Desk(issuing, reactor).listed()), [])

    async def test_renewed_at_once(self) -> None:
        """Unless the authority does not want to be asked: then that is said."""
        issuing = self.issuing(WWW)
        await self.have(issuing, WWW)
        desk, first = Desk(issuing, reactor), issuing.kept.credentials[WWW]
        self.assertIsNone(desk.order(WWW))
        self.assertEqual(await desk.renew(WWW), {"ordered": [WWW]})
        await until(lambda: issuing.kept.credentials[WWW].id != first.id and not issuing.running)
        order = desk.order(WWW) or {}
        self.assertEqual((order["state"], order["not_after"]), ("issued", issuing.kept.credentials[WWW].not_after))
        self.assertIn("is asked", order["steps"][0])
        self.assertEqual((await desk.renew("nobody.example.test"))["status"], 409)
        self.ca.behave("order", problem("rateLimited", "too many new orders", 429, "7200"))
        self.assertEqual(await desk.renew(WWW), {"ordered": [WWW]})
        await until(lambda: issuing.directories.rest_until())
        self.assertIn("too many new orders", (desk.order(WWW) or {})["problem"])
        self.assertIn("too many new orders", (await desk.renew(WWW))["error"])
        self.assertIn("ordered at", (desk.order(WWW) or {})["problem"])

    async def test_an_order_is_followed_to_its_end(self) -> None:
        """With the authority's own words where it refuses; one that is broken off, or wanted no more, has failed."""
        issuing = self.issuing(WWW)
        await self.have(issuing, WWW)
        desk = Desk(issuing, reactor)
        self.ca.behave("order", problem("rejectedIdentifier", "not that one"))
        await desk.renew(WWW)
        await self.idle(issuing)
        order = desk.order(WWW) or {}
        self.assertEqual(order["state"], "failed")
        self.assertIn("not that one (rejectedIdentifier); next try", order["problem"])
        self.solvers.clear()
        self.solvers["tls-alpn-01"] = Stuck()
        await desk.renew(WWW)
        await until(lambda: (desk.order(WWW) or {})["state"] == "running")
        issuing.want([])
        await self.idle(issuing)
        self.assertEqual((desk.order(WWW) or {})["problem"], "the order was broken off")

    async def test_one_that_waits_for_its_turn(self) -> None:
        """It is the next, whatever else is due; one whose name is dropped meanwhile ends."""
        others = [f"a{number}.example.test" for number in range(8)]
        issuing = self.issuing(WWW)
        await self.have(issuing, WWW)
        self.solvers.clear()
        self.solvers["tls-alpn-01"] = Stuck()
        issuing.want([WWW, *others])
        await until(lambda: len(issuing.running) == AT_ONCE)
        desk = Desk(issuing, reactor)
        await desk.renew(WWW)
        self.assertEqual((desk.order(WWW) or {})["state"], "waiting")
        issuing.running[others[0]].cancel()
        await until(lambda: WWW in issuing.running)
        await desk.renew(others[-1])
        issuing.want([WWW])
        self.assertIn("no route wants it", (desk.order(others[-1]) or {})["problem"])

    async def test_keys_of_accounts(self) -> None:
        """Not while orders run, whose proofs are of them; the authority's words where it does not take another."""
        issuing = self.issuing(WWW)
        desk = Desk(issuing, reactor)
        await until(lambda: issuing.running)
        self.assertIn("orders are under way", (await desk.change_account_keys())["error"])
        await self.have(issuing, WWW)
        url = issuing.directories.urls[0]
        before = issuing.kept.account_key(url)
        self.ca.behave("keychange", problem("serverInternal", "not today", 500))
        answer = await desk.change_account_keys()
        self.assertIn("not today", answer["error"])
        self.assertEqual(answer["changed"], [])
        self.assertEqual(issuing.kept.account_key(url).private_numbers(), before.private_numbers())
        self.assertEqual(issuing.directories.rest_until(), 0.0)

    async def test_revoked(self) -> None:
        """By who has issued it; another one takes its place at once."""
        issuing = self.issuing(WWW)
        desk = Desk(issuing, reactor)
        self.assertIn("no certificate of an authority yet", (await desk.revoke(WWW))["error"])
        await self.have(issuing, WWW)
        first = issuing.kept.credentials[WWW]
        self.ca.behave("revoke", problem("unauthorized", "not yours", 403))
        self.assertIn("not yours", (await desk.revoke(WWW))["error"])
        self.assertEqual(await desk.revoke(WWW), {"revoked": [WWW], "ordered": [WWW]})
        await until(lambda: issuing.kept.credentials[WWW].id != first.id and not issuing.running)
        issuing.want([])
        self.assertEqual(await desk.revoke(WWW), {"revoked": [WWW], "ordered": []})
        self.assertEqual(issuing.credentials(), ())

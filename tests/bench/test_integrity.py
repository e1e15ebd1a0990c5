"""bench.integrity: the service changes no octet, and what is wrong would be seen."""

from __future__ import annotations

import asyncio
from random import Random

from twisted.trial.unittest import SynchronousTestCase

from bench.integrity.hops import Book
from bench.integrity.service import EXCHANGES, Options
from bench.integrity.streams import FarEnd, plan
from bench.integrity.tally import Tally, difference
from bench.reliability.ledger import Parcel


class ExchangeTests(SynchronousTestCase):
    def test_nothing_is_wrong(self) -> None:
        """A moment of each kind, with reloads in the midst."""
        for kind, exchange in EXCHANGES.items():
            with self.subTest(kind=kind):
                tally = Tally()
                asyncio.run(exchange(Options(seed=7, seconds=2, at_once=4, reloads=True), tally))
                self.assertEqual(tally.wrong, [])
                self.assertGreater(tally.exchanges, 0)


class Writer:
    """A stream to nowhere."""

    def write(self, data: bytes) -> None:
        pass

    def write_eof(self) -> None:
        pass

    async def drain(self) -> None:
        pass


class StreamTests(SynchronousTestCase):
    def far_end_hears(self, octets: bytes) -> list[str]:
        tally = Tally()

        async def hear() -> None:
            reader = asyncio.StreamReader()
            reader.feed_data(octets)
            reader.feed_eof()
            await FarEnd(1, tally).serve(reader, Writer())  # type: ignore[arg-type]

        asyncio.run(hear())
        return tally.wrong

    def test_an_octet_that_differs_is_seen(self) -> None:
        """Another one, one less, one more; and nothing of what is as it was sent."""
        number = next(
            at for at in range(1, 100) if plan(1, at).cut is None and plan(1, at).half_closes and plan(1, at).up
        )
        head, up = number.to_bytes(8, "big"), plan(1, number).up
        self.assertEqual(self.far_end_hears(head + up), [])
        for wrong in (bytes((up[0] ^ 1,)) + up[1:], up[:-1], up + b"x"):
            self.assertEqual(len(self.far_end_hears(head + wrong)), 1)

    def test_where_two_part_is_told(self) -> None:
        """By place, or by length."""
        self.assertEqual(difference(b"abc", b"abd"), "another octet at 2 of 3, 3 came")
        self.assertEqual(difference(b"abc", b"ab"), "2 octets and not 3")


class BookTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.book = Book(Tally())
        text = b"Subject: h1\r\n\r\n" + Random(1).randbytes(9) + b"\r\n"
        self.parcel = Parcel(token="h1", recipients=("a@hop.test",), text=text)
        self.book.parcels["h1"] = self.parcel
        self.book.promised.update(self.parcel.items)

    def wrong(self) -> list[str]:
        self.book.close()
        return self.book.tally.wrong

    def test_what_arrives_once_as_it_was_is_right(self) -> None:
        """Fields in front do not count."""
        self.book.take("h1", ["a@hop.test"], b"Received: x\r\n" + self.parcel.text)
        self.assertEqual(self.wrong(), [])

    def test_what_does_not_arrive_or_twice_is_wrong(self) -> None:
        """Each is told."""
        self.assertIn("has come 0 times", self.wrong()[0])
        for _ in range(2):
            self.book.take("h1", ["a@hop.test"], self.parcel.text)
        self.assertIn("has come 2 times", self.wrong()[1])

    def test_what_is_damaged_is_wrong(self) -> None:
        """By one octet."""
        self.book.take("h1", ["a@hop.test"], self.parcel.text[:-1])
        self.assertIn("damaged", self.wrong()[0])

    def test_a_notification_is_right_for_what_was_refused_alone(self) -> None:
        """And it has to name who."""
        notice = b"Final-Recipient: rfc822;a@hop.test\r\n\r\nFrom: h1@load.test\r\n"
        self.book.told_of(notice)
        self.book.refused.add(("h1", "a@hop.test"))
        self.assertEqual(self.wrong(), [])
        self.book.refused.clear()
        self.assertIn("nobody had refused it", self.wrong()[0])
        self.book.told_of(b"Subject: sorry\r\n")
        self.assertIn("names nobody", self.wrong()[1])

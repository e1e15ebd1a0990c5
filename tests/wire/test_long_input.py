"""What strangers write into headers and DNS to keep us busy: every length costs its length, not its square."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dcrouter.errors import WireError
from dcrouter.wire.authresults import without_forged
from dcrouter.wire.dkim.canonical import split
from dcrouter.wire.dmarc import parse as parse_policy
from dcrouter.wire.spf.check import check_host
from dcrouter.wire.spf.record import parse as parse_record
from tests.support.answers import run

LONG = 60_000


class LongTests(SynchronousTestCase):
    def test_headers(self) -> None:
        """A line of blanks, of colons, of brackets, thousands of fields; a square of any would take minutes."""
        for head in (
            b" " * LONG + b"\r\n",
            b"a" + b" " * LONG + b"\r\nb: c\r\n",
            b":" * LONG + b"\r\n",
            b"a:\r\n" * (LONG // 4),
            b"Authentication-Results:" + b" (" * (LONG // 2) + b"\r\n",
            b"Authentication-Results: " + b"a1" * (LONG // 2) + b" x\r\n",
            b"Authentication-Results:" + b" ()" * (LONG // 3) + b"\r\n",
        ):
            self.assertLessEqual(len(without_forged(head, "mx.test")), len(head))
            self.assertGreaterEqual(len(split(head + b"To: a\r\n")), 1)

    def test_records(self) -> None:
        """Labels, macros and tags without end."""
        for term in ("a:." + "a" * LONG + "!", "a:." + "a-" * (LONG // 2), "a:" + "/1" * (LONG // 2), "%{" * LONG):
            self.assertRaises(WireError, parse_record, "v=spf1 " + term)
        zone = {("x.test", "TXT"): ["v=spf1 exists:" + "%{s}." * (LONG // 5) + "y.test -all"]}
        self.assertEqual(run(check_host("192.0.2.1", "x.test", "a@x.test", "h", hostname="m"), zone).result, "fail")
        self.assertIsNotNone(parse_policy("v=DMARC1;" + "a;" * LONG + "=" * LONG))

"""Instants as mail writes them, and as everything else does."""

from __future__ import annotations

from datetime import datetime
from email.utils import formatdate, parsedate_to_datetime

from twisted.trial.unittest import SynchronousTestCase

from dcrouter.wire.moments import mail_date, utc

INSTANTS = (0, 1_583_020_799, 1_780_000_000, 1_795_251_600, 4_000_000_000)


class MomentTests(SynchronousTestCase):
    def test_dates_of_mail_are_those_of_the_standard_library(self) -> None:
        """RFC 5322 3.3, in English whatever the locale, in the zone +0000; a day may have one digit."""
        self.assertEqual(mail_date(1_795_251_600), "Sat, 21 Nov 2026 09:00:00 +0000")
        for instant in INSTANTS:
            self.assertEqual(parsedate_to_datetime(mail_date(instant)).timestamp(), instant)
            self.assertEqual(mail_date(instant)[:3], formatdate(instant)[:3])

    def test_all_others_are_those_of_rfc_3339(self) -> None:
        """In UTC, to the second."""
        self.assertEqual(utc(1_795_251_600.9), "2026-11-21T09:00:00Z")
        for instant in INSTANTS:
            self.assertEqual(datetime.fromisoformat(utc(instant)).timestamp(), instant)

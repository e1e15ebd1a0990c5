"""The page of what each verb is answered in each state."""

from __future__ import annotations

import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from dcrouter.wire.smtp.command import FOREIGN, KNOWN_ELSEWHERE, VERBS
from dcrouter.wire.smtp.server import COMMANDS
from dcrouter.wire.smtp.states import page

PAGE = Path(__file__).resolve().parents[3] / "docs" / "smtp-states.md"


class PageTests(SynchronousTestCase):
    def test_the_page_is_fresh(self) -> None:
        """`python -m dcrouter.wire.smtp.states > docs/smtp-states.md`."""
        self.assertEqual(PAGE.read_text("utf-8"), page())

    def test_every_verb_is_on_it(self) -> None:
        """All that we understand, and nothing that others do is taken for it."""
        self.assertEqual(VERBS, set(COMMANDS))
        self.assertEqual(VERBS & (FOREIGN | KNOWN_ELSEWHERE), set())
        self.assertEqual(VERBS - set(re.findall(r"`([A-Z]+)", page())), set())

    def test_no_reply_is_without_its_enhanced_code(self) -> None:
        """RFC 2034 3: but those to EHLO and HELO, greetings, and what is neither 2xx, 4xx nor 5xx."""
        for line in page().splitlines():
            verb, *cells = [cell.strip() for cell in line.strip("|").split("|")]
            if verb.startswith("`") and verb not in ("`EHLO`", "`HELO`", "`XCLIENT`"):
                for cell in cells:
                    self.assertRegex(cell, r"^(?:354|(\d)\d\d \1\.\d\.\d+(?:, \*\*end\*\*)?)$", verb)

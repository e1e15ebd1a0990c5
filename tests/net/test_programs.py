from __future__ import annotations

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from dcrouter.net.programs import run


class ProgramTests(TestCase):
    async def test_a_program_that_ends_well_has_nothing_to_say(self) -> None:
        """Its words are its own: no shell sees them."""
        self.assertIsNone(await run(reactor, ["test", "$HOME;", "=", "$HOME;"], 30))

    async def test_a_failure_is_told_with_its_last_line(self) -> None:
        """Printable, and of bounded length."""
        script = "import sys; print('x' * 100000); print('no such unit\\x1b', file=sys.stderr); sys.exit(5)"
        problem = await run(reactor, ["python3", "-c", script], 30)
        self.assertEqual(problem, "python3 has failed with status 5: no such unit?")

    async def test_a_program_that_is_not_there_is_a_failure(self) -> None:
        """Like any other."""
        problem = await run(reactor, ["no-such-program"], 30)
        self.assertEqual(problem, "no-such-program: there is no such program, or it may not be run")

    async def test_one_that_does_not_end_is_ended(self) -> None:
        """What it has started may go on; nobody waits for that."""
        problem = await run(reactor, ["sh", "-c", "sleep 600 & exec sleep 600"], 0.5)
        self.assertEqual(problem, "sh has not ended within 0.5 s")

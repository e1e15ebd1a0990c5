from __future__ import annotations

import json
import os
import subprocess
import sys
from unittest import SkipTest

from twisted.trial.unittest import SynchronousTestCase

from dcrouter.control.privileges import find_account
from dcrouter.errors import StartError

DROP = """
import json, os, sys
from dcrouter.control.privileges import drop, find_account
drop(find_account("nobody", sys.argv[1] or None))
try:
    os.setuid(0)
    back = True
except PermissionError:
    back = False
print(json.dumps({"uid": os.getresuid(), "gid": os.getresgid(), "groups": os.getgroups(), "back": back}))
"""


class TestAccount(SynchronousTestCase):
    def test_nothing_set_is_nobody_to_become(self) -> None:
        """Without `user` and `group` the processes stay who they are."""
        self.assertIsNone(find_account(None, None))

    def test_unknown_users_and_groups_are_told_with_the_remedy(self) -> None:
        """One line each, with the command that creates it."""
        for user, group in (("no-such-user", None), (None, "no-such-group")):
            with self.assertRaises(StartError) as caught:
                find_account(user, group)
            self.assertIn("add --system no-such-", str(caught.exception))


class TestDrop(SynchronousTestCase):
    def test_root_is_left_for_good(self) -> None:
        """All three ids and the groups are the account's, and there is no way back."""
        if os.geteuid() != 0:
            raise SkipTest("needs root")
        done = subprocess.run(
            [sys.executable, "-c", DROP, "tty"], capture_output=True, text=True, check=True, timeout=60
        )
        now = json.loads(done.stdout)
        account = find_account("nobody", "tty")
        assert account is not None
        self.assertEqual(now["uid"], [account.uid] * 3)
        self.assertEqual(now["gid"], [account.gid] * 3)
        self.assertNotIn(0, now["groups"])
        self.assertFalse(now["back"])

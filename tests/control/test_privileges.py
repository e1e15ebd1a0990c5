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


START = """
import os, resource, sys
from twisted.internet import reactor
from twisted.internet.protocol import ProcessProtocol
from dcrouter.control.privileges import close_on_exec
class Ended(ProcessProtocol):
    def processEnded(self, reason):
        print(reason.value.exitCode)
        reactor.stop()
os.dup2(1, 200)
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
close_on_exec()
seen = "import os; raise SystemExit(3 if os.path.exists('/proc/self/fd/200') else 0)"
reactor.callWhenRunning(lambda: reactor.spawnProcess(Ended(), sys.executable, ["python", "-c", seen]))
reactor.run()
"""


class TestDescriptors(SynchronousTestCase):
    def test_children_start_beside_descriptors_beyond_the_limit(self) -> None:
        """As from a shell that holds a lock as descriptor 200 and sets a limit of 100; none of them inherits it."""
        done = subprocess.run([sys.executable, "-c", START], capture_output=True, text=True, timeout=240)
        self.assertEqual((done.stdout.strip(), done.stderr), ("0", ""))


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

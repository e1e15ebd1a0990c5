"""Dovecot, as a real program, for whatever protocol a test wants of it."""

from __future__ import annotations

import grp
import os
import pwd
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.support.peers import require
from tests.support.ports import Reserved
from tests.support.programs import Program

COMMON = """
base_dir = {base}/run
state_dir = {base}/run
log_path = {base}/log.dovecot
ssl = no
first_valid_uid = 0
first_valid_gid = 0
mail_location = maildir:{base}/mail/%n
passdb {{
  driver = passwd-file
  args = {base}/users
}}
userdb {{
  driver = passwd-file
  args = {base}/users
}}
service anvil {{
  chroot =
}}
service stats {{
  chroot =
}}
"""

OURS = """
default_internal_user = {user}
default_internal_group = {group}
default_login_user = {user}
"""


class Dovecot(Program):
    """`settings`: all that COMMON does not say, with {base}, {port} and {user}. `accounts`: who has mail, in
    `base`/mail/NAME. `ours`: its processes run as whoever runs the test, and else as Debian's.
    """

    def __init__(self, settings: str, accounts: Sequence[str] = (), *, ours: bool) -> None:
        dovecot = require("dovecot")
        base, own = Path(tempfile.mkdtemp(prefix="dovecot-")), Reserved()
        base.chmod(0o755)
        uid, gid = (os.geteuid(), os.getegid()) if os.geteuid() else (65534, 65534)  # Dovecot delivers nothing as root
        (base / "mail").mkdir()
        os.chown(base / "mail", uid, gid)
        users = "".join(f"{who}:{{plain}}x:{uid}:{gid}::{base}/mail/{who}::\n" for who in accounts)
        (base / "users").write_text(users)
        user, group = pwd.getpwuid(os.geteuid()).pw_name, grp.getgrgid(os.getegid()).gr_name
        text = COMMON + (OURS if ours else "") + settings
        (base / "dovecot.conf").write_text(text.format(base=base, port=own.port, user=user, group=group))
        super().__init__([dovecot, "-F", "-c", str(base / "dovecot.conf")], base, own.port, (own,))

    def words(self) -> str:
        log = self.base / "log.dovecot"
        return log.read_text("utf-8", "replace") if log.exists() else ""

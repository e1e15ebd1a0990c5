"""The state directory: made 0700, held by one instance at a time, and never opened by an older dcrouter than wrote it.

1. The directory is created where it is missing; with an account to step down to, it is handed to that account.
2. `lock` is held by flock(2) and contains the pid. The descriptor is given to the children, so the lock is free only
   when the last process of an instance has ended, even one whose parent was killed.
3. `version` holds the number of the schema of everything in the directory.
"""

from __future__ import annotations

import fcntl
import os
import stat
import time
from pathlib import Path

from dcrouter.control.privileges import Account
from dcrouter.durable import make_directory, sync_directory
from dcrouter.errors import StartError

SCHEMA = 1
"""The layout of the state directory that this dcrouter writes."""
ORPHANS = 5.0
"""Seconds for which a start waits for the children of an instance that was killed: they end by themselves."""
OWN = frozenset(("acme", "dane", "internal-ca", "lock", "lost+found", "mail", "mail-half", "maildir", "version.new"))
"""What may be there though there is no version yet: a backup that was put back, or a disk of its own."""
MAX_WORDS = 100
"""Characters of a command line in a message."""


class StateDirectory:
    """`open` takes it, `close` gives it back. `lock` is the descriptor that children inherit, -1 while not open.

    `home`: another one, which is made if it is not there, and which others have too. `log`: a file that may be there
    already.
    """

    def __init__(self, path: Path, home: Path | None = None, log: Path | None = None) -> None:
        self.path = path
        self.log = log
        self.home = home
        self.lock = -1

    def open(self, account: Account | None = None) -> None:
        """Create, lock and check the directory, and hand it to `account`; StartError, with nothing kept open."""
        for path in (self.home, self.path):
            if path is not None:
                self._refuse_foreign(path, account)
                self._create(path)
        try:
            if account is not None and self.home is not None and self.home.stat().st_uid != account.uid:
                os.chown(self.home, account.uid, account.gid)
            self._take_lock()
            self._check_version()
            if account is not None:
                self._hand_over(account)
        except OSError as error:
            self.close()
            raise StartError(f"state_dir: {error.filename or self.path}: {error.strerror}") from error
        except StartError:
            self.close()
            raise

    def close(self) -> None:
        """Give up the lock (of this process)."""
        if self.lock != -1:
            os.close(self.lock)
            self.lock = -1

    def _create(self, path: Path) -> None:
        try:
            make_directory(path)
            if stat.S_IMODE(path.stat().st_mode) & 0o077 and path.stat().st_uid == os.geteuid():
                path.chmod(0o700)
        except FileExistsError:
            raise StartError(f"state_dir: {path} is not a directory") from None
        except OSError as error:
            raise StartError(
                f"state_dir: cannot create {path}: {error.strerror}; "
                "create it for the user that runs dcrouter, or set state_dir to a place where it may write"
            ) from error
        if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
            raise StartError(f"state_dir: {path} belongs to {_owner(path)}: not writable by this user")

    def _refuse_foreign(self, path: Path, account: Account | None) -> None:
        """StartError where root would take a directory away from others that have something in it, as /var/lib."""
        try:
            status, found = path.stat(), set(os.listdir(path))
        except OSError:
            return  # it is not there yet, or told in a moment
        logs = self.log.relative_to(path).parts[:1] if self.log is not None and self.log.is_relative_to(path) else ()
        foreign = sorted(found - OWN - set(logs))
        taken = stat.S_IMODE(status.st_mode) & 0o077 or (account is not None and status.st_uid != account.uid)
        if os.geteuid() == 0 and taken and foreign and "version" not in found:
            raise StartError(
                f"state_dir: {path} has other things in it ({', '.join(foreign[:3])}{', ...' if foreign[3:] else ''}), "
                "and would be closed to all but dcrouter: name a directory of its own"
            )

    def _take_lock(self) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self.lock = os.open(self.path / "lock", flags, 0o600)
        deadline = time.monotonic() + ORPHANS
        while True:
            try:
                fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                holder = os.pread(self.lock, 32, 0).decode("ascii", "replace").strip()
                if not holder or _has_lock(holder, self.path / "lock") or time.monotonic() > deadline:
                    raise StartError(f"state_dir: {self.path} is in use by {self._user(holder)}") from None
                time.sleep(0.05)
        pid = f"{os.getpid()}\n".encode()
        os.pwrite(self.lock, pid, 0)  # in the room of the one before: a full disk has no other
        os.ftruncate(self.lock, len(pid))

    def _user(self, pid: str) -> str:
        """Who has the lock, and what to do; `pid`: who took it, which may have ended since."""
        if not pid or _has_lock(pid, self.path / "lock"):
            return f"another dcrouter, pid {pid or 'unknown'}; stop that one, or give this one a state_dir of its own"
        left = _lock_holders(self.path / "lock")
        if not left:
            return (
                f"a process that is left of a dcrouter that has ended (pid {pid}); `fuser {self.path / 'lock'}` as root"
                " says which: end it, and start again"
            )
        who = ", ".join(f"pid {number} ({words})" for number, words in left)
        return (
            f"what is left of a dcrouter that has ended (pid {pid}): {who}; it should have ended by itself: "
            f"`kill -9 {' '.join(str(number) for number, _ in left)}`, and start again"
        )

    def _check_version(self) -> None:
        path = self.path / "version"
        try:
            text = path.read_text("ascii").strip()
        except FileNotFoundError:
            self._write_version(path)
            return
        except UnicodeDecodeError:
            text = ""
        if not text.isdecimal():
            raise StartError(f"state_dir: {path} does not hold a version number; restore it from a backup")
        if int(text) > SCHEMA:
            raise StartError(
                f"state_dir: {self.path} has schema version {text}, written by a newer dcrouter; this one knows up to "
                f"{SCHEMA}: run the newer dcrouter, or give this one another state_dir"
            )

    def _write_version(self, path: Path) -> None:
        """Whole and durable, or not at all: an empty one would be refused at every start from then on."""
        new = path.with_name("version.new")
        new.unlink(missing_ok=True)
        # Never through a link: root makes it, in a directory that others may own.
        fresh = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.write(fresh, f"{SCHEMA}\n".encode())
            os.fsync(fresh)
        finally:
            os.close(fresh)
        new.rename(path)
        sync_directory(self.path)

    def _hand_over(self, account: Account) -> None:
        # Whole only where it was someone else's until now: later everything in it is made by the account itself, and a
        # walk by root through a directory that others can write to follows whatever they planted.
        if self.path.stat().st_uid != account.uid:
            for _, folders, files, here in os.fwalk(self.path):
                for name in folders + files:
                    status = os.stat(name, dir_fd=here, follow_symlinks=False)
                    if stat.S_ISDIR(status.st_mode) or status.st_nlink == 1:
                        os.chown(name, account.uid, account.gid, dir_fd=here, follow_symlinks=False)
            os.chown(self.path, account.uid, account.gid)
        for name in ("lock", "version"):
            os.chown(self.path / name, account.uid, account.gid, follow_symlinks=False)


def holder_of(lock: Path) -> str | None:
    """The pid of the parent that has this lock, None where nobody has it, or this user may not know."""
    try:
        pid = lock.read_text("ascii", "replace").strip()
    except OSError:
        return None
    return pid if _has_lock(pid, lock) else None


def _has_lock(pid: str, lock: Path) -> bool:
    """Whether the process that took the lock lives (a zombie does not, and the pid may be another's by now) and has it;
    of one that this user may not look into it is taken for granted.
    """
    process = Path("/proc", pid)
    try:
        if not pid.isdecimal() or (process / "stat").read_bytes().rpartition(b")")[2].split()[0] in (b"Z", b"X"):
            return False
        wanted = lock.stat()
        return any(_is_held(process, fd, wanted) for fd in os.listdir(process / "fd"))
    except PermissionError:
        return True
    except OSError:
        return False


def _lock_holders(lock: Path) -> list[tuple[int, str]]:
    """(pid, command line) of every process that has the flock of this file, as far as this user may look: proc(5),
    /proc/pid/fdinfo. The kernel's own list (/proc/locks) has only the pid that took it.
    """
    wanted = lock.stat()
    holders: list[tuple[int, str]] = []
    for process in sorted(Path("/proc").glob("[0-9]*"), key=lambda one: int(one.name)):
        try:
            if any(_is_held(process, fd, wanted) for fd in os.listdir(process / "fd")):
                words = (process / "cmdline").read_bytes().rstrip(b"\0").replace(b"\0", b" ")
                text = words.decode("utf-8", "replace")[:MAX_WORDS]
                holders.append((int(process.name), "".join(c if c.isprintable() else "?" for c in text)))
        except OSError:  # another user's, or it has ended just now
            continue
    return holders


def _is_held(process: Path, fd: str, wanted: os.stat_result) -> bool:
    try:
        # In this order: to look at a file of somebody else's may hang with the disk that it is on.
        locked = "FLOCK" in (process / "fdinfo" / fd).read_text("ascii", "replace")
        return locked and os.path.samestat((process / "fd" / fd).stat(), wanted)
    except OSError:  # closed meanwhile
        return False


def _owner(path: Path) -> str:
    try:
        return path.owner()
    except KeyError:
        return f"uid {path.stat().st_uid}"

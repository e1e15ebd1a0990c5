"""Who the processes run as: the account of `user` and `group`, and the step down to it that cannot be taken back.

1. Everything that needs root (binding, the state directory's ownership, the log file) is done before `drop`.
2. `drop` sets the supplementary groups, then the group, then the user, real, effective and saved, and proves it: see
   setresuid(2), credentials(7). The children are started afterwards and inherit it.
3. Ports below 1024 stay possible after that only with CAP_NET_BIND_SERVICE (capabilities(7)), which a systemd unit
   gives to an ordinary user with `User=` and `AmbientCapabilities=CAP_NET_BIND_SERVICE`; then `user` is not needed.
"""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import resource

from attrs import frozen

from dcrouter.errors import StartError

DESCRIPTORS = 1 << 20
"""Never ask for more open files than this: some hosts allow a thousand million, and nothing here needs a million."""


@frozen(kw_only=True)
class Account:
    """Whom to become: `groups` are the supplementary ones. `name` is for messages."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]


def is_root() -> bool:
    """Whether this process can become someone else."""
    return os.geteuid() == 0


def find_account(user: str | None, group: str | None) -> Account | None:
    """The account behind the configuration's `user` and `group`, None where neither is set; StartError if unknown."""
    if user is None and group is None:
        return None
    try:
        gid = grp.getgrnam(group).gr_gid if group is not None else None
    except KeyError:
        raise StartError(f"group: there is no {group!r} on this host: groupadd --system {group}") from None
    if user is None:
        assert gid is not None
        return Account(name=str(group), uid=os.geteuid(), gid=gid, groups=(gid,))
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise StartError(f"user: there is no {user!r} on this host: useradd --system {user}") from None
    gid = entry.pw_gid if gid is None else gid
    return Account(name=user, uid=entry.pw_uid, gid=gid, groups=tuple(os.getgrouplist(user, gid)))


def drop(account: Account) -> None:
    """Become `account` for good; StartError where that is not possible or could be undone. Needs root."""
    try:
        os.setgroups(account.groups)
        os.setresgid(account.gid, account.gid, account.gid)
        os.setresuid(account.uid, account.uid, account.uid)
    except OSError as error:
        raise StartError(f"cannot become user {account.name}: {error.strerror}") from error
    if os.getresuid() != (account.uid,) * 3 or os.getresgid() != (account.gid,) * 3:
        raise StartError(f"cannot become user {account.name}: the kernel kept other ids")
    if account.uid != 0 and _can_return():
        raise StartError(f"user {account.name} could become root again: refusing to run like this")


def check_program(program: str, account: Account) -> None:
    """StartError where this process, having become `account`, may not run `program`: its children could not start."""
    if not os.access(program, os.X_OK, effective_ids=True):
        raise StartError(f"user {account.name} may not run {program}: install dcrouter where that user can read it")


def raise_descriptor_limit() -> int:
    """Let this process and its children open as many files as the host allows; the new limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return soft


def close_on_exec() -> None:
    """Let no child inherit what this process was started with, its standard streams apart.

    Whoever starts a child would else close it there, which fails with EBADF beyond a limit that was lowered meanwhile
    (posix_spawn(3)), as a shell does that holds a lock as descriptor 200.
    """
    for number in map(int, os.listdir("/proc/self/fd")):
        if number > 2:
            with contextlib.suppress(OSError):  # the listing's own is closed by now
                os.set_inheritable(number, False)


def _can_return() -> bool:
    try:
        os.setresuid(0, 0, 0)
    except PermissionError:
        return False
    return True

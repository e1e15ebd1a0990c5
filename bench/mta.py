"""The mail servers, each an instance of its own that forwards mail for example.test to a sink.

Equal work: both answer 250 after a sync, send to the same sinks, log to a file as they do by default (Postfix through
its own postlogd), take 50 MB, and have their limits of connections lifted. What is queued for dead0.test to dead9.test
goes to ports where nobody listens. Nothing of the system's own Postfix is touched: `queue_directory`, `data_directory`
and the configuration are in the bench's temporary directory.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from attrs import frozen

from bench.machine import find
from bench.peers import UNCHECKED, dcrouter_command
from bench.place import free_port
from bench.process import Failed, Program, private_kib, tree, wait_for, whole_cpu_seconds

NAMES = ("postfix", "lines", "dcrouter")
PEERS = ("postfix", "dcrouter")
Proxy = Literal["dante", "microsocks"]
PROXIES: tuple[Proxy, ...] = ("dante", "microsocks")
DOMAINS = ("example.test", "example2.test")
"""What each sink takes mail for."""
DEAD = 10
FLOODER = "127.0.0.2"
_CHECKED = "{dmarc: enforce}"
_SIZE = 50 << 20  # dcrouter is told the same as 50MB
_MASTER_CF = Path("/etc/postfix/master.cf")


@frozen(kw_only=True)
class Task:
    """`sinks`: the ports of the next hops, one for each of DOMAINS; `sessions`: how many clients at once.

    `environment`: added for all processes.
    `dns`: the port of a name server: then mail is checked (SPF, DKIM, DMARC, iprev, ARC), which dcrouter alone does.
    `slots`: sessions that there may be, 0: as many as there can; then FLOODER speaks for others by PROXY headers.

    `fill`: recipients for dead destinations that are queued before it starts, due evenly over `spread` seconds.
    `socks`: the port of the proxy through which it sends, None: straight.
    """

    directory: Path
    sinks: Sequence[int]
    sessions: int
    environment: dict[str, str]
    fill: int = 0
    spread: float = 3600.0
    dns: int = 0
    slots: int = 0
    socks: int | None = None


class Mta:
    """A started server. `port` speaks SMTP; `stop` is called before its program is ended."""

    def __init__(
        self, name: str, directory: Path, program: Program, port: int, stop: Callable[[], None] | None = None
    ) -> None:
        self.name = name
        self.directory = directory
        self.port = port
        self._program = program
        self._before = stop

    def check(self) -> None:
        """Failed where it has ended."""
        self._program.check()

    def cpu_seconds(self) -> float:
        """User and system time so far of all its processes, those that have ended included."""
        return whole_cpu_seconds(tree(self._program.pid))

    def memory_kib(self) -> int:
        """Resident memory of all its processes, without what they share with others (programs and libraries)."""
        return private_kib(tree(self._program.pid))

    def stop(self) -> None:
        if self._before is not None:
            self._before()
        self._program.stop()


def obstacle(name: str) -> str | None:
    """Why this side cannot be measured here, or None."""
    if name == "dcrouter":
        return None if dcrouter_command() else "dcrouter is not installed beside this Python"
    if name == "lines":
        return None if importlib.util.find_spec("aiosmtpd") else "aiosmtpd is not installed beside this Python"
    if find("postfix") is None or not _MASTER_CF.exists():
        return "Postfix is not installed, or has no master.cf"
    return None if os.geteuid() == 0 else "an instance of Postfix needs root"


def start(name: str, task: Task) -> Mta:
    """Start one server and wait for its greeting; its owner stops it."""
    return {"postfix": _postfix, "lines": _lines, "dcrouter": _dcrouter}[name](task)


# ---------------------------------------------------------------------- Postfix


def _postfix(task: Task) -> Mta:
    here = task.directory
    user = pwd.getpwnam("postfix")
    for name in ("spool", "data", "conf"):
        (here / name).mkdir()
    os.chown(here / "data", user.pw_uid, user.pw_gid)
    port = free_port()
    hops = [f"{{ {domain} = smtp:[127.0.0.1]:{port} }}" for domain, port in zip(DOMAINS, task.sinks, strict=False)]
    hops += [f"{{ dead{number}.test = smtp:[127.0.0.1]:{free_port()} }}" for number in range(DEAD)]
    imported = " ".join(f"{name}={value}" for name, value in task.environment.items())
    (here / "conf" / "main.cf").write_text(
        f"""compatibility_level = 3.6
queue_directory = {here}/spool
data_directory = {here}/data
maillog_file = {here}/maillog
maillog_file_prefixes = {here}
import_environment = MAIL_CONFIG MAIL_DEBUG MAIL_LOGTAG TZ LANG=C {imported}
myhostname = localhost
mydestination =
local_recipient_maps =
alias_maps =
alias_database =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
message_size_limit = {_SIZE}
default_process_limit = {task.sessions + 300}
smtpd_client_connection_count_limit = 0
transport_maps = inline:{{ {", ".join(hops)} }}
"""
    )
    services = re.sub(r"(?m)^smtp +inet .*$", f"127.0.0.1:{port} inet n - n - - smtpd", _MASTER_CF.read_text())
    services = re.sub(r"(?m)^(\S+ +unix\S* +\S +\S +)y ", r"\1n ", services)  # Debian's chroots are of its own instance
    if "postlogd" not in services:
        services += "postlog unix-dgram n - n - 1 postlogd\n"
    (here / "conf" / "master.cf").write_text(services)
    if task.fill:
        _fill_postfix(task, _running_postfix(task, port), user)
    return _running_postfix(task, port)


def _running_postfix(task: Task, port: int) -> Mta:
    argv = [find("postfix") or "postfix", "-c", str(task.directory / "conf"), "start-fg"]
    program = Program(argv, task.directory / "output.log")

    def stop() -> None:
        """Ends master, which ends its children; it is in a session of its own."""
        for pid, _ in tree(program.pid):
            with contextlib.suppress(OSError):
                if Path(f"/proc/{pid}/comm").read_text().strip() == "master":
                    os.kill(pid, signal.SIGTERM)
        with contextlib.suppress(Failed):
            wait_for("master ends", 8.0, lambda: program.ended)

    mta = Mta("postfix", task.directory, program, port, stop)
    return _greeting(mta)


def _fill_postfix(task: Task, mta: Mta, user: pwd.struct_passwd) -> None:
    """Deferred messages, copies of one that Postfix has deferred itself for each dead destination."""
    deferred = task.directory / "spool" / "deferred"
    try:
        for number in range(DEAD):
            send(mta, recipient=f"b@dead{number}.test", count=1, sessions=1, size=1024, reuse=False).output(20.0)
        wait_for("mail is deferred", 30.0, lambda: len(_queue_files(deferred)) == DEAD)
    finally:
        mta.stop()
    patterns = _queue_files(deferred)
    now = time.time()
    for number in range(task.fill - DEAD):
        fresh = deferred / "fresh"
        shutil.copyfile(patterns[number % DEAD], fresh)
        fresh.chmod(0o700)
        os.chown(fresh, user.pw_uid, user.pw_gid)
        due = now + 60.0 + task.spread * number / task.fill
        os.utime(fresh, (due, due))
        name = f"{number % 0xFFFFF:05X}{fresh.stat().st_ino:X}"  # what Postfix calls it: microseconds and inode
        place = deferred / name[0]
        if not place.exists():
            place.mkdir(mode=0o700)
            os.chown(place, user.pw_uid, user.pw_gid)
        fresh.rename(place / name)


def _queue_files(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]


# ---------------------------------------------------------------------- dcrouter


def _dcrouter(task: Task) -> Mta:
    port = free_port()
    slots = f", max_connections: {task.slots}" if task.slots else ""
    proxied = f"proxy_protocol: [{{from: [{FLOODER}/32]}}]" if task.slots else ""
    text = f"""version: 1
state_dir: state
listen: ["127.0.0.1"]
log: {{file: dcrouter.log}}
resolver: {{servers: ["127.0.0.1:{task.dns or free_port()}"]}}
{proxied}
email:
  hostname: localhost
  postmaster: postmaster@example.test
  ports: [{{port: {port}, kind: smtp}}]
  security: {{max_connections_per_ip: 100000{slots}}}
  authentication_results: {_CHECKED if task.dns else UNCHECKED}
  max_message_size: 50MB
  rules:
"""
    for domain, sink in zip(DOMAINS, task.sinks, strict=False):
        text += f"""    - name: {domain}
      match: {{recipients: ["*@{domain}"]}}
      action: {{type: forward, targets: [{{host: 127.0.0.1, port: {sink}}}]}}
"""
    for number in range(DEAD):
        text += f"""    - name: dead{number}
      match: {{recipients: ["*@dead{number}.test"]}}
      action: {{type: forward, targets: [{{host: 127.0.0.1, port: {free_port()}}}]}}
"""
    if task.socks is not None:
        text += f"  egress: [{{through: ['socks5://127.0.0.1:{task.socks}']}}]\n"
    (task.directory / "routes.yaml").write_text(text)
    if task.fill:
        _running_dcrouter(task, port).stop()
        argv = [sys.executable, "-m", "bench.fill", str(task.directory / "state"), str(task.fill), str(task.spread)]
        subprocess.run(argv, check=True, timeout=120)
    return _running_dcrouter(task, port)


def _running_dcrouter(task: Task, port: int) -> Mta:
    program = dcrouter_command()
    assert program is not None
    argv = [program, "run", "--config", str(task.directory / "routes.yaml")]
    started = Program(argv, task.directory / "output.log", environment=task.environment)
    return _greeting(Mta("dcrouter", task.directory, started, port))


# ---------------------------------------------------------------------- a reader of lines


def _lines(task: Task) -> Mta:
    port = free_port()
    argv = [sys.executable, "-m", "bench.lines", str(port), str(task.directory)]
    root = str(Path(__file__).resolve().parent.parent)
    program = Program(argv, task.directory / "output.log", environment={**task.environment, "PYTHONPATH": root})
    return _greeting(Mta("lines", task.directory, program, port))


# ---------------------------------------------------------------------- all


def _greeting(mta: Mta) -> Mta:
    """The server, once it takes mail for the sink; Failed, with its last words, where it does not."""

    def greeted() -> bool:
        mta.check()
        probe = send(mta, count=1, sessions=1, size=1024, reuse=False)
        try:
            probe.output(20.0)
            return probe.code == 0
        finally:
            probe.stop()

    try:
        wait_for(f"{mta.name} takes mail", 40.0, greeted)
    except BaseException:
        mta.stop()
        raise
    return mta


def send(mta: Mta, *, count: int, sessions: int, size: int, reuse: bool, recipient: str = "b@example.test") -> Program:
    """Postfix's smtp-source: `count` messages of `size` octets, over `sessions` connections at once.

    `reuse`: as many messages as there are on each; else a connection for each message.
    """
    argv = [find("smtp-source") or "smtp-source", "-s", str(sessions), "-m", str(count), "-l", str(size)]
    argv += ["-f", "a@example.test", "-t", recipient, *(["-d"] if reuse else []), f"127.0.0.1:{mta.port}"]
    return Program(argv, mta.directory / "source.log", capture=True)


class Sinks:
    """Postfix's smtp-sink, which takes every message and counts them; `count` of them, as of DOMAINS."""

    def __init__(self, directory: Path, count: int) -> None:
        program = find("smtp-sink")
        if program is None:
            raise Failed("smtp-sink is not installed (Debian: postfix)")
        self.ports = [free_port() for _ in range(count)]
        self._counts = [directory / f"sink{port}.log" for port in self.ports]
        argv = [program, "-c", *(["-u", "nobody"] if os.geteuid() == 0 else [])]
        self._programs = [
            Program([*argv, f"127.0.0.1:{port}", "1000"], log)
            for port, log in zip(self.ports, self._counts, strict=True)
        ]

    @property
    def messages(self) -> int:
        """How many have come so far, to all of them."""
        return sum(map(_counted, self._counts))

    def wait_for(self, count: int, seconds: float) -> None:
        """Until there are `count`; Failed after `seconds`."""
        for program in self._programs:
            program.check()
        end = time.monotonic() + seconds
        while (here := self.messages) < count:
            if time.monotonic() > end:
                raise Failed(f"{count - here} of the messages had not come through after {seconds:.0f} s")
            time.sleep(0.005)

    def stop(self) -> None:
        for program in self._programs:
            program.stop()


def _counted(log: Path) -> int:
    with log.open("rb") as file:
        file.seek(max(file.seek(0, os.SEEK_END) - 200, 0))
        found: list[bytes] = re.findall(rb"mesg=(\d+)\r", file.read())
    return int(found[-1]) if found else 0


class Socks:
    """A SOCKS 5 proxy."""

    def __init__(self, name: Proxy, directory: Path) -> None:
        word = {"microsocks": "microsocks", "dante": "danted"}[name]
        program = find(word)
        if program is None:
            raise Failed(f"{word} is not installed (Debian: microsocks, dante-server)")
        self.port = free_port()
        argv = [program, "-i", "127.0.0.1", "-p", str(self.port)]
        if name == "dante":
            settings = directory / "danted.conf"
            settings.write_text(_DANTE.format(port=self.port, user=pwd.getpwuid(os.geteuid()).pw_name))
            argv = [program, "-f", str(settings), "-p", str(directory / "danted.pid")]
        self._program = Program(argv, directory / "socks.log")

    def stop(self) -> None:
        self._program.stop()


_DANTE = """
errorlog: stderr
internal: 127.0.0.1 port = {port}
external: lo
socksmethod: none
clientmethod: none
user.privileged: {user}
user.unprivileged: {user}
client pass {{ from: 0.0.0.0/0 to: 0.0.0.0/0 }}
socks pass {{ from: 0.0.0.0/0 to: 0.0.0.0/0 }}
"""


def slow_sync(directory: Path, milliseconds: int) -> dict[str, str]:
    """The environment in which a sync takes so much longer; Failed without a C compiler."""
    compiler = find("cc") or find("gcc")
    if compiler is None:
        raise Failed("needs a C compiler (Debian: gcc, libc6-dev)")
    library = directory / "slowsync.so"
    source = Path(__file__).with_name("slowsync.c")
    done = subprocess.run(
        [compiler, "-O2", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode:
        raise Failed(f"{compiler}: {done.stderr.strip()[-200:]}")
    library.chmod(0o755)
    return {"LD_PRELOAD": str(library), "SLOW_SYNC_US": str(milliseconds * 1000)}

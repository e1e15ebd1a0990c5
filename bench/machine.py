"""What the figures were taken on: cores, kernel, processor, versions; and which core each side gets."""

from __future__ import annotations

import os
import platform
import re
import resource
import shutil
import ssl
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from attrs import frozen

_PLACES = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin", "/usr/lib/postfix/sbin"))


def find(program: str) -> str | None:
    """The full path of a program, also where Debian keeps daemons; None where it is not installed."""
    return shutil.which(program, path=_PLACES)


@frozen(kw_only=True)
class Cores:
    """Who runs where. None: the machine has one core, or a row leaves it to the scheduler."""

    proxy: frozenset[int] | None
    load: frozenset[int] | None


def cores() -> Cores:
    """The first core for the proxy under test, the second for load makers and backends."""
    available = sorted(os.sched_getaffinity(0))
    if len(available) < 2:
        return Cores(proxy=None, load=None)
    return Cores(proxy=frozenset(available[:1]), load=frozenset(available[1:2]))


def _first(pattern: str, *argv: str) -> str:
    """The first group of `pattern` in what a program prints, or `not installed`."""
    program = find(argv[0])
    if program is None:
        return "not installed"
    done = subprocess.run([program, *argv[1:]], capture_output=True, text=True, timeout=20, check=False)
    found = re.search(pattern, done.stdout + done.stderr)
    return found.group(1).strip() if found else "unknown"


def _package(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _edge_openssl() -> str:
    """The OpenSSL inside `cryptography`, which is dcrouter's."""
    try:
        from cryptography.hazmat.backends.openssl.backend import backend
    except ImportError:
        return "not installed"
    return backend.openssl_version_text()


def _processor() -> str:
    found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    return found.group(1) if found else platform.machine()


def describe() -> dict[str, str]:
    """Name -> value, in the order of the table's header."""
    at = cores()
    placed = (
        "not pinned: one core" if at.proxy is None else f"proxy on core {set(at.proxy)}, load on {set(at.load or ())}"
    )
    return {
        "processor": f"{_processor()}, {len(os.sched_getaffinity(0))} cores ({placed})",
        "kernel": f"{platform.system()} {platform.release()}",
        "Python": f"{platform.python_version()} ({ssl.OPENSSL_VERSION})",
        "Twisted": _package("Twisted"),
        "pyOpenSSL": _package("pyOpenSSL"),
        "dcrouter": f"{_package('dcrouter')}, {_edge_openssl()}",
        "HAProxy": _first(r"version (\S+)", "haproxy", "-v")
        + ", "
        + _first(r"Running on OpenSSL version : (OpenSSL \S+)", "haproxy", "-vv"),
        "nginx": _first(r"nginx/(\S+)", "nginx", "-v") + ", " + _nginx_openssl(),
        "Caddy": _first(r"v?([0-9]\S+)", "caddy", "version"),
        "Postfix": _first(r"mail_version = (\S+)", "postconf", "-d", "mail_version"),
        "load makers": "wrk "
        + _first(r"wrk (?:debian/)?(\S+)", "wrk", "-v")
        + ", "
        + _first(r"(OpenSSL \S+)", "openssl", "version"),
    }


def _nginx_openssl() -> str:
    running = _first(r"running with (OpenSSL \S+)", "nginx", "-V")
    return running if running.startswith("OpenSSL") else _first(r"built with (OpenSSL \S+)", "nginx", "-V")


@frozen(kw_only=True)
class Noise:
    """Seconds of processor time so far, of all cores: `total`, `busy`, `own` (this program's and what it started), and
    `stolen` by the hypervisor."""

    total: float
    busy: float
    own: float
    stolen: float

    def since(self, before: Noise) -> str:
        """How quiet the machine was: figures of a run beside which others worked are not worth keeping."""
        total = max(self.total - before.total, 1e-9)
        others = max(self.busy - before.busy - (self.own - before.own), 0.0)
        stolen = self.stolen - before.stolen
        return (
            f"{100 * others / total:.0f} % of the processors went to others, {100 * stolen / total:.1f} % were stolen"
        )


def noise() -> Noise:
    """The counters as they stand now; children count once they have ended."""
    ticks = os.sysconf("SC_CLK_TCK")
    user, nice, system, idle, waiting, irq, softirq, stolen = (
        int(value) / ticks for value in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
    )
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    busy = user + nice + system + irq + softirq
    return Noise(
        total=busy + idle + waiting + stolen,
        busy=busy,
        own=sum(usage.ru_utime + usage.ru_stime for usage in spent),
        stolen=stolen,
    )

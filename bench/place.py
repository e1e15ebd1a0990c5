"""Where a program runs: this network namespace, or one of a pair that is joined by a veth link.

The pair is for one question: what bulk costs when segments are small. On loopback a segment is 64 KiB; here MTU is 1500
and TSO, GSO and GRO are off at both ends, so every segment is one packet, as on a card without offloads.
"""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from attrs import frozen

from bench.machine import find
from bench.process import Failed

_MTU = "1500"
_LOAD, _PROXY = "198.18.0.1", "198.18.0.2"  # RFC 2544: addresses for measurements


@frozen(kw_only=True)
class Place:
    """`host`: the address to listen on there; `prefix`: the words before a command that make it run there."""

    host: str = "127.0.0.1"
    prefix: tuple[str, ...] = ()


HERE = Place()


def free_port() -> int:
    """A port that nobody listened on a moment ago, picked by the kernel."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def veth_obstacle() -> str | None:
    """Why a veth pair cannot be made here, or None."""
    if os.geteuid() != 0:
        return "needs root for network namespaces"
    missing = [name for name in ("ip", "ethtool") if find(name) is None]
    return f"needs {' and '.join(missing)}" if missing else None


def _run(*argv: str) -> None:
    program = find(argv[0])
    assert program is not None
    done = subprocess.run([program, *argv[1:]], capture_output=True, text=True, timeout=20, check=False)
    if done.returncode:
        raise Failed(f"{' '.join(argv)}: {done.stderr.strip()}")


@contextmanager
def veth_pair() -> Iterator[tuple[Place, Place]]:
    """(place of the proxy, place of load makers and backends); both are taken away at the end."""
    names = [f"dcrouter-bench-{os.getpid()}-{side}" for side in ("load", "proxy")]
    ip = find("ip")
    assert ip is not None
    try:
        for name in names:
            _run("ip", "netns", "add", name)
        _run("ip", "-n", names[0], "link", "add", "bench0", "type", "veth", "peer", "name", "bench0", "netns", names[1])
        places = []
        for name, host in zip(names, (_LOAD, _PROXY), strict=True):
            _run("ip", "-n", name, "link", "set", "lo", "up")
            _run("ip", "-n", name, "link", "set", "bench0", "mtu", _MTU, "up")
            _run("ip", "-n", name, "addr", "add", f"{host}/30", "dev", "bench0")
            prefix = (ip, "netns", "exec", name)
            _run(*prefix, "ethtool", "-K", "bench0", "tso", "off", "gso", "off", "gro", "off")
            places.append(Place(host=host, prefix=prefix))
        yield places[1], places[0]
    finally:
        for name in names:
            subprocess.run([ip, "netns", "del", name], capture_output=True, timeout=20, check=False)

"""What is sent at a side, bounded in time, by wrk, `openssl s_time`, and the clients of `bench.clients`.

s_time and not wrk makes the new TLS connections, because it can be told to make a full handshake each time or to
resume, and marks in its output which of the two each connection was.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attrs import field, frozen

from bench.hello import SNI, client_hello
from bench.machine import find
from bench.place import HERE, Place
from bench.process import Failed, Program

CONNECTIONS = 64
_HANDSHAKERS = 12
_HELLO_SCRIPT = """-- the first call is wrk's own check that this is HTTP; nothing of it is sent
local hello, checked = "HELLO", false
request = function()
  if checked then return hello end
  checked = true
  return wrk.format("GET", "/")
end
local pause = PAUSE
if pause > 0 then
  delay = function() return math.random(0, 2 * pause) end
end
"""
_GRACE = 20.0  # seconds that a load maker may end late


@frozen(kw_only=True)
class Sent:
    """What a load made. `units`: connections, requests or bytes; in `seconds`; `latencies` in seconds."""

    units: float
    seconds: float
    errors: int = 0
    resumed: int = 0
    latencies: Sequence[float] = field(default=())


@frozen(kw_only=True)
class LoadMakers:
    """Where load is made from. `directory` keeps their logs."""

    directory: Path
    cores: frozenset[int] | None
    place: Place = HERE

    def start(self, argv: Sequence[str], nice: int = 0) -> Program:
        """One captured load maker; its owner stops it."""
        root = str(Path(__file__).resolve().parent.parent)
        log = self.directory / "load.log"
        return Program([*self.place.prefix, *argv], log, self.cores, True, nice, {"PYTHONPATH": root})

    def client(self, name: str, nice: int = 0, /, **options: Any) -> Program:
        """One client of `bench.clients`."""
        return self.start([sys.executable, "-m", "bench.clients", name, json.dumps(options)], nice)

    def wrk(self, port: int, seconds: float, *, tls: bool = False, close: bool = False, hello: bool = False) -> Sent:
        """64 connections; `close`: a new one for each request; `hello`: a ClientHello is what is sent."""
        return read_wrk(self._all([self._wrk(port, seconds, tls=tls, close=close, hello=hello)], seconds)[0])

    def hellos(self, port: int, seconds: float, pause: float) -> Program:
        """New connections that send a ClientHello, 64 at once, each after `pause` seconds on average; started and not
        waited for: `read_wrk` of its output.
        """
        return self.start(self._wrk(port, seconds, close=True, hello=True, pause=pause))

    def _wrk(
        self, port: int, seconds: float, *, tls: bool = False, close: bool, hello: bool, pause: float = 0.0
    ) -> list[str]:
        argv = [_program("wrk"), "-t1", f"-c{CONNECTIONS}", f"-d{max(1, round(seconds))}s", "--timeout", "10s"]
        if close:
            argv += ["-H", "Connection: close"]
        if hello:
            script = self.directory / "hello.lua"
            quoted = "".join(f"\\{byte:03d}" for byte in client_hello())
            script.write_text(_HELLO_SCRIPT.replace("HELLO", quoted).replace("PAUSE", str(round(pause * 1000))))
            argv += ["-s", str(script)]
        host = SNI if tls else "127.0.0.1"
        return [*argv, f"{'https' if tls else 'http'}://{host}:{port}/small"]

    def handshakes(self, port: int, seconds: float, *, resume: bool) -> Sent:
        """New TLS 1.3 connections, one small request each: full handshakes or resumed ones. Failed if it was not so."""
        argv = [_program("openssl"), "s_time", "-connect", f"127.0.0.1:{port}", "-reuse" if resume else "-new"]
        argv += [
            "-tls1_3",
            "-www",
            "/small",
            "-time",
            str(max(1, round(seconds))),
            "-no-CAfile",
            "-no-CApath",
            "-no-CAstore",
        ]
        begin = time.monotonic()
        outputs = self._all([argv] * _HANDSHAKERS, seconds)
        taken = time.monotonic() - begin  # s_time ends when a whole second of the clock does
        marks = [
            mark for text in outputs for line in text.splitlines() if re.fullmatch(r"[*r]+", line) for mark in line
        ]
        resumed = marks.count("r")
        if not all("real seconds" in text for text in outputs) or not marks:
            raise Failed("openssl s_time ended early, see load.log")
        if resume and resumed < 0.99 * (len(marks) - _HANDSHAKERS):
            raise Failed(f"only {resumed} of {len(marks)} connections were resumed")
        if not resume and resumed:
            raise Failed(f"{resumed} of {len(marks)} connections were resumed")
        return Sent(units=len(marks), seconds=taken, resumed=resumed)

    def bulk(self, port: int, seconds: float, *, streams: int, tls: bool) -> Sent:
        """Downloads on `streams` connections; units are bytes."""
        programs = self.downloads(port, seconds, streams=streams, tls=tls)
        return Sent(units=sum(result["units"] for result in gather(programs, seconds)), seconds=seconds)

    def downloads(self, port: int, seconds: float, *, streams: int, tls: bool) -> list[Program]:
        """The same, started and not waited for; `gather` ends them."""
        options = {"host": self.target, "port": port, "seconds": seconds, "tls": tls}
        return [self.client("bulk", 10, **options) for _ in range(streams)]

    def small(self, port: int, seconds: float, *, tls: bool) -> Sent:
        """Small requests one after another; their latencies are the result."""
        program = self.client("small", host="127.0.0.1", port=port, seconds=seconds, tls=tls)
        (result,) = gather([program], seconds)
        return Sent(units=len(result["latencies"]), seconds=seconds, latencies=result["latencies"])

    def compared(self, ports: Sequence[int], seconds: float) -> list[list[float]]:
        """A ClientHello on a new connection to each of `ports` in turn, again and again; the latencies of each."""
        program = self.client("hellos", host="127.0.0.1", ports=list(ports), seconds=seconds)
        (result,) = gather([program], seconds)
        latencies: list[list[float]] = result["latencies"]
        return latencies

    @property
    def target(self) -> str:
        """The address of the proxy, seen from here."""
        return "127.0.0.1" if self.place is HERE else "198.18.0.2"

    def _all(self, commands: Sequence[Sequence[str]], seconds: float) -> list[str]:
        programs = [self.start(argv) for argv in commands]
        try:
            return [program.output(seconds + _GRACE) for program in programs]
        finally:
            for program in programs:
                program.stop()


def gather(programs: Sequence[Program], seconds: float) -> list[dict[str, Any]]:
    """The one JSON line of each client, which are ended then; Failed where one gave none."""
    try:
        outputs = [program.output(seconds + _GRACE) for program in programs]
    finally:
        for program in programs:
            program.stop()
    for program, text in zip(programs, outputs, strict=True):
        if not text.strip():
            raise Failed(f"a load maker ended without a result: {program.tail()}")
    return [json.loads(text) for text in outputs]


def obstacle() -> str | None:
    """Which load maker is not installed, or None."""
    missing = [name for name in ("wrk", "openssl", "nginx") if find(name) is None]
    return f"load needs {', '.join(missing)} (Debian packages of these names)" if missing else None


def _program(name: str) -> str:
    path = find(name)
    if path is None:
        raise Failed(f"{name} is not installed")
    return path


def read_wrk(text: str) -> Sent:
    """What wrk printed, as figures; Failed where it printed none."""
    done = re.search(r"(\d+) requests in ([\d.]+)(ms|s|m)", text)
    if done is None:
        raise Failed(f"wrk: {text.strip() or 'no output'}")
    scale = {"ms": 0.001, "s": 1.0, "m": 60.0}[done.group(3)]
    errors = sum(int(count) for count in re.findall(r"(?:connect|read|write|timeout) (\d+)", text))
    errors += sum(int(count) for count in re.findall(r"Non-2xx or 3xx responses: (\d+)", text))
    return Sent(units=int(done.group(1)), seconds=float(done.group(2)) * scale, errors=errors)

"""`dcrouter run` as a sub-process: started, waited for until it is ready, asked, and ended, whatever happens.

It runs in a session of its own, so that Ctrl-C on the terminal is the demo's alone, which then ends it in order.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

from dcrouter.admin.client import ApiError, ask
from dcrouter.admin.demo.place import Place
from dcrouter.errors import DcrouterError

COMMAND = (sys.executable, "-P", "-m", "dcrouter.admin.cli", "run", "--config")
"""To which the path of the configuration is added."""
START = 30.0
"""Seconds until it must be ready."""
STOP = 12.0
"""Seconds for SIGTERM, of which the demo's own timeouts.drain takes two; then it is killed."""
POLL = 0.02
TAKEN = "the port is taken"


class NotReady(DcrouterError):
    """It has ended, or was silent for START seconds. `port_taken`: because somebody else has one of its ports."""

    def __init__(self, message: str, *, port_taken: bool) -> None:
        super().__init__(message)
        self.port_taken = port_taken


class Router:
    """One life of the service, with its output in `place.router_log`."""

    def __init__(self, place: Place, command: Sequence[str] = COMMAND) -> None:
        self.place = place
        self.ready_after = 0.0
        with place.router_log.open("wb") as log:
            self._process = subprocess.Popen(
                [*command, str(place.config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=place.directory,
                start_new_session=True,
            )
        self._began = time.monotonic()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def wait_until_ready(self) -> None:
        """Return when it accepts connections; NotReady where it does not come to that."""
        while time.monotonic() - self._began < START:
            status = self._process.poll()
            if status is not None:
                raise NotReady(
                    f"the router has ended with exit status {status} before it was ready",
                    port_taken=TAKEN in self.log(),
                )
            with contextlib.suppress(ApiError):  # it is not there yet
                if ask(self.place.admin_socket, "GET", "/status")["state"] == "ready":
                    self.ready_after = time.monotonic() - self._began
                    return
            time.sleep(POLL)
        raise NotReady(f"the router is not ready after {START:g} s", port_taken=False)

    def status(self) -> dict[str, Any]:
        """As `dcrouter status --json`."""
        return ask(self.place.admin_socket, "GET", "/status")

    def log(self) -> str:
        """What it has written so far."""
        return self.place.router_log.read_text("utf-8", "replace")

    def said_by(self, role: str) -> list[str]:
        """The sentences of one of its processes: the log's lines (time, level, role, text) without their beginning."""
        columns = (line.split(maxsplit=3) for line in self.log().splitlines() if not line.startswith(" "))
        return [words[3] for words in columns if len(words) == 4 and words[2] == role]

    def wait(self, seconds: float) -> None:
        """Return after `seconds`, or when it has ended."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return

    def stop(self) -> float:
        """End it and give the seconds that took; its children end with it."""
        began = time.monotonic()
        if not self.ended:
            self._process.terminate()
            try:
                self._process.wait(STOP)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(STOP)
            except BaseException:  # a second Ctrl-C: at once, then
                self._process.kill()
                raise
        return time.monotonic() - began

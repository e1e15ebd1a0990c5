"""A child process for tests: speaks the real channel on descriptor 3 and does what its second argument says.

`good`: ready after its configuration. `dies`: exits with 7 before it is ready. `later`: so it does, and says that it
cannot begin for now. `silent`: never ready. `stubborn`: never drains and ignores the end of its channel. Its `status`
tells what it was given. Of another configuration it says nothing; `halfway`: it is prepared for one, and says no more.
"""

from __future__ import annotations

import os
import socket
import sys
from typing import Any

from twisted.internet import reactor

from dcrouter.net.channel import Channel

role, mode = sys.argv[1:3]
given: dict[str, Any] = {
    "role": role,
    "pid": os.getpid(),
    "ports": [],
    "peers": 0,
    "went": False,
    "names": {},
    "config": None,
    "changing": [],
}
kept: list[int] = []


def received(kind: str, fields: dict[str, Any], fds: list[int]) -> None:
    kept.extend(fds)
    if kind == "config":
        given["config"] = fields
        if mode == "later":
            channel.send("not_now")
            channel.flush(1.0)
        if mode in ("dies", "later"):
            print("something is wrong", file=sys.stderr, flush=True)
            os._exit(7)
        if mode != "silent":
            channel.send("ready")
    elif kind == "listener":
        for fd in fds:
            with socket.socket(fileno=os.dup(fd)) as listening:
                given["ports"].append(listening.getsockname()[1])
    elif kind == "peer":
        given["peers"] += 1
    elif kind == "go":
        given["went"] = True
        record = {
            "time": 1.0,
            "level": "info",
            "namespace": "child",
            "text": f"{role} goes",
            "fields": {},
            "traceback": None,
        }
        channel.send("log", {"lines": [record]})
    elif kind == "addresses":
        given["names"] = fields["names"]
    elif kind == "access":
        channel.send("access", fields)
    elif kind == "status":
        channel.send("status", {**given, "id": fields["id"]})
    elif kind == "queue":
        channel.send("queue", {"id": fields["id"], "asked": fields})
    elif kind in ("prepare", "commit"):
        given["changing"].append(kind)
        if kind == "prepare" and mode == "halfway":
            channel.send("answer", {"id": fields["id"]})
    elif kind == "drain" and mode != "stubborn":
        channel.send("drained")


def lost(reason: str) -> None:
    if mode != "stubborn":
        reactor.stop()


channel = Channel(reactor, socket.socket(fileno=3), received, lost)
channel.start()
reactor.run()

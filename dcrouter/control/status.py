"""What the service does now, as `dcrouter status` and the API show it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from dcrouter import __version__
from dcrouter.errors import Unreachable

if TYPE_CHECKING:
    from dcrouter.control.parent import Parent


async def status_of(parent: Parent) -> dict[str, Any]:
    """JSON-ready; `counters` of a child that does not answer is None."""
    children = parent.children.status() if parent.children is not None else {}
    asked = {role: parent.children.ask(role, "status") for role in children} if parent.children is not None else {}
    for role, answer in asked.items():
        try:
            children[role]["counters"] = await answer
        except Unreachable:
            children[role]["counters"] = None
    return {
        "version": __version__,
        "state": parent.state,
        "pid": os.getpid(),
        "uptime": round(parent.uptime, 1),
        "config": str(parent.source),
        "state_dir": str(parent.config.state_dir),
        "children": children,
        "listeners": [
            {"address": listener.address, "port": listener.port, "routes": list(listener.routes)}
            for listener in parent.sockets.listeners
        ],
        "reloads": parent.reloads.status(),
        "log": {"level": parent.log_level, "dropped": parent.log_sink.lost if parent.log_sink is not None else 0},
        "access_log": {"dropped": parent.access_log.dropped} if parent.access_log is not None else None,
    }

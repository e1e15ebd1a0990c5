"""Waiting for facts in tests that run on the reactor."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.task import deferLater


@inlineCallbacks
def until(condition: Callable[..., Any], seconds: float = 100.0) -> Any:
    """Waits for a fact (called without arguments); AssertionError when it does not come."""
    deadline = time.monotonic() + seconds
    while True:
        fact = condition()
        if isinstance(fact, Deferred):
            fact = yield fact
        if fact:
            return fact
        if time.monotonic() > deadline:
            raise AssertionError(f"it did not happen within {seconds} seconds: {condition}")
        yield deferLater(reactor, 0.01)

"""Asking the state of something until the CA is done with it (RFC 8555 section 7.5.1)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.task import deferLater

from dcrouter.errors import AcmeError
from dcrouter.tls.acme.account import Account
from dcrouter.tls.acme.answers import Fields
from dcrouter.tls.acme.waiting import Patience

FORGIVEN = 4
"""Answers in a row that may lack, or be a 5xx: a CA that restarts a server does not end an order."""


async def poll(
    reactor: Any,
    account: Account,
    url: str,
    done: Callable[[Fields], bool],
    seconds: float,
    patience: Patience,
    first: float | None = None,
) -> Fields | None:
    """The object at `url` once it is done; None where it is not after `seconds`.

    `first`: seconds until the first look, where the CA has said so.
    """
    end = reactor.seconds() + seconds
    pause, wait, failures = patience.pause, first, 0
    while True:
        if wait is None:
            wait, pause = pause, min(pause * 2, patience.pause_at_most)
        left = end - reactor.seconds()
        if left <= 0:
            return None
        await deferLater(reactor, min(max(wait, patience.pause), patience.retry_at_most, left))
        try:
            answer = await account.post(url, None)
        except AcmeError as error:
            failures += 1
            if not error.temporary or error.rate_limited or failures > FORGIVEN:
                raise
            wait = error.retry_after
            continue
        failures, wait = 0, answer.retry_after
        fields = answer.fields()
        if done(fields):
            return fields

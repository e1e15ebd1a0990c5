"""Asking until the CA is done with something (RFC 8555 section 7.5.1), and asking again where an answer was lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.task import deferLater

from dcrouter.errors import AcmeError
from dcrouter.tls.acme.account import Account
from dcrouter.tls.acme.answers import Answer, Fields
from dcrouter.tls.acme.waiting import Patience

FORGIVEN = 4
"""Answers in a row that may be lost, or be a 5xx: a CA that restarts a server does not end an order."""


async def fetch(reactor: Any, account: Account, url: str, patience: Patience) -> Answer:
    """What is at `url`, which asking does not change."""
    pause, failures = patience.pause, 0
    while True:
        try:
            return await account.post(url, None)
        except AcmeError as error:
            failures += 1
            if not _is_forgiven(error, failures):
                raise
            wait = error.retry_after
        await deferLater(reactor, _bounded(pause if wait is None else wait, patience))
        pause = min(pause * 2, patience.pause_at_most)


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
        await deferLater(reactor, min(_bounded(wait, patience), left))
        try:
            answer = await account.post(url, None)
        except AcmeError as error:
            failures += 1
            if not _is_forgiven(error, failures):
                raise
            wait = error.retry_after
            continue
        failures, wait = 0, answer.retry_after
        fields = answer.fields()
        if done(fields):
            return fields


def _is_forgiven(error: AcmeError, failures: int) -> bool:
    return error.temporary and not error.rate_limited and failures <= FORGIVEN


def _bounded(wait: float, patience: Patience) -> float:
    return min(max(wait, patience.pause), patience.retry_at_most)

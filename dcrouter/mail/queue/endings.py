"""What the outcomes of an attempt mean for its recipients: who leaves, who waits until when, who must be told of it.

1. Delivered leaves. Deferred waits for its next time; when the message is too old for one, it has failed.
2. A failure is told to the sender, and its recipient leaves with that. Where nobody may be told (the null sender, one
   who does not want it, or notifications are off) it stays as failed; a notification that postmaster could not be given
   is held.
3. A delay is told once, when a recipient has waited for `delay_notice`; success only to who asked for that. Whether a
   sender wants to hear is a matter of each recipient (RFC 3461 4.1).
4. What the operator wants of a recipient that was under way goes before a next time, and before any notification.
"""

from __future__ import annotations

import random

from attrs import define, field

from dcrouter.config.queue import Retry
from dcrouter.mail.delivery.outcome import Deferred as Later
from dcrouter.mail.delivery.outcome import Delivered, Held, Outcome, Postponed
from dcrouter.mail.envelope import Recipient
from dcrouter.mail.message import Message
from dcrouter.mail.queue.backoff import next_attempt
from dcrouter.mail.queue.notices import Ended
from dcrouter.mail.queue.store import FAILED, HELD, HELD_BY_OPERATOR, HELD_NOTICE, QUEUED, Change
from dcrouter.mail.queue.wishes import Wishes


@define(eq=False)
class Verdict:
    """`words`: for each recipient, in order. `told`: whom a notification has to tell of; those of them who failed are
    in neither `gone` nor `changed` yet. `targets`: number -> the next hop that a recipient waits for.
    """

    words: list[str] = field(factory=list)
    gone: list[int] = field(factory=list)
    changed: list[Change] = field(factory=list)
    told: list[Ended] = field(factory=list)
    targets: dict[int, str] = field(factory=dict)


class Endings:
    """By the rules of `retry`."""

    def __init__(self, retry: Retry) -> None:
        self.retry = retry

    def verdict(self, message: Message, outcomes: list[Outcome], now: float, wishes: Wishes, *, tells: bool) -> Verdict:
        """On all recipients of `message`, one outcome each. `tells`: whether anybody writes notifications."""
        verdict = Verdict()
        tells = tells and message.notice is None and message.envelope.sender != ""
        for one, outcome in zip(message.envelope.recipients, outcomes, strict=True):
            wish = wishes.get((message.id, one.number)) if wishes else None
            if isinstance(outcome, Delivered):
                verdict.gone.append(one.number)
                verdict.words.append("delivered")
                if outcome.told and tells and one.wants("SUCCESS"):
                    verdict.told.append(Ended(one, outcome, outcome.told))
            elif wish == "drop":
                verdict.gone.append(one.number)
                verdict.words.append("dropped")
            elif isinstance(outcome, Held):
                verdict.changed.append(
                    Change(one.number, HELD, one.attempts, rounded(now), one.told, outcome.reply, one.source)
                )
                verdict.words.append("held")
            elif not isinstance(outcome, Later | Postponed) or now - message.since >= self.retry.max_age:
                verdict.words.append("held" if message.notice == "postmaster" else "failed")
                if tells and one.wants("FAILURE"):
                    verdict.told.append(Ended(one, outcome, "failed"))
                else:
                    verdict.changed.append(failure(message, one, outcome, now))
            elif wish == "hold":
                state, due, source = HELD_BY_OPERATOR, rounded(now), _source(one, outcome)
                attempts = one.attempts + isinstance(outcome, Later)
                verdict.changed.append(Change(one.number, state, attempts, due, one.told, outcome.reply, source))
                verdict.words.append("held")
            else:
                verdict.words.append("deferred" if isinstance(outcome, Later) else "postponed")
                self._defer(verdict, message, one, outcome, now, tells)
        return verdict

    def _defer(
        self, verdict: Verdict, message: Message, one: Recipient, outcome: Later | Postponed, now: float, tells: bool
    ) -> None:
        attempts = one.attempts
        if isinstance(outcome, Postponed):
            due = min(now + outcome.seconds, max(message.since + self.retry.max_age, now + 1.0))
        else:
            attempts += 1
            due = self._next(attempts, message, now)
        late = 0.0 < self.retry.delay_notice <= now - message.since
        told = one.told
        if late and tells and not told and one.wants("DELAY"):
            verdict.told.append(Ended(one, outcome, "delayed"))
            told = True
        changed = Change(one.number, QUEUED, attempts, rounded(due), told, outcome.reply, _source(one, outcome))
        verdict.changed.append(changed)
        # Only who could not be reached: a hop that answered has its reasons to say later.
        if outcome.target and not outcome.reply[:3].isdecimal():
            verdict.targets[one.number] = outcome.target

    def _next(self, attempts: int, message: Message, now: float) -> float:
        due = next_attempt(self.retry, attempts=attempts, received=message.since, now=now, random=random.random)
        assert due is not None
        return due


def _source(one: Recipient, outcome: Later | Postponed) -> str:
    return (outcome.source if isinstance(outcome, Later) else "") or one.source


def failure(message: Message, one: Recipient, outcome: Outcome, now: float) -> Change:
    """A recipient of whose failure nobody is told."""
    state = HELD_NOTICE if message.notice == "postmaster" else FAILED
    return Change(one.number, state, one.attempts + 1, rounded(now), one.told, outcome.reply, one.source)


def rounded(instant: float) -> float:
    """Milliseconds: what survives a walk through JSON unchanged, so that a cursor is exact."""
    return round(instant, 3)

"""Recipients who have to wait, or fail, whatever their rule does: all mail is paused, or that of their domain is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dcrouter.mail.delivery.exchange import ascii_or_as_it_is
from dcrouter.mail.delivery.outcome import Failed, Outcome
from dcrouter.mail.message import Message
from dcrouter.mail.shaping.pauses import ALL
from dcrouter.mail.shaping.shaping import Shaping
from dcrouter.wire.smtp.address import split


def held(message: Message, shaping: Shaping) -> dict[int, Outcome]:
    """Those, by their place in the message."""
    if not shaping.pauses:
        return {}
    found: dict[int, Outcome] = {}
    for place, one in enumerate(message.envelope.recipients):
        outcome = _held(ascii_or_as_it_is(split(one.address)[1].lower()), shaping)
        if outcome is not None:
            found[place] = outcome
    return found


def with_held(found: Mapping[int, Outcome], outcomes: Sequence[Outcome]) -> list[Outcome]:
    """The outcomes of all recipients in order: those, and the others'."""
    others = iter(outcomes)
    return [found[place] if place in found else next(others) for place in range(len(found) + len(outcomes))]


def _held(domain: str, shaping: Shaping) -> Outcome | None:
    what = f"domain {domain}"
    pause = shaping.pauses.first((ALL, what))
    if pause is not None:
        return shaping.postponed(pause)
    failing = shaping.pauses.get(what, "bounce")
    return Failed(f"550 5.7.1 {what}: {failing.reason}") if failing is not None else None

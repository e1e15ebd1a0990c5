"""Orders that somebody has asked for and waits for: what they do, and how they end (`dcrouter certs renew`)."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Literal

from attrs import asdict, define, field

MOST = 1000
"""Names that are remembered; the one that was asked for first is forgotten first."""
MOST_STEPS = 100


@define(kw_only=True)
class Followed:
    """One order. `steps`: what it has done so far, in words; `problem`: why it has failed, "" while it has not.

    `not_after`: of the certificate that came of it, UTC epoch seconds.
    """

    state: Literal["waiting", "running", "issued", "failed"] = "waiting"
    steps: list[str] = field(factory=list)
    problem: str = ""
    not_after: float | None = None

    @property
    def ended(self) -> bool:
        return self.state in ("issued", "failed")

    def to_plain(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


class FollowedOrders:
    """By name, those that were asked for; of any other nothing is remembered."""

    def __init__(self) -> None:
        self._orders: OrderedDict[str, Followed] = OrderedDict()

    def get(self, name: str) -> Followed | None:
        """The last one of `name`."""
        return self._orders.get(name)

    def waits(self, name: str) -> bool:
        """Whether somebody waits for its turn to come."""
        one = self._orders.get(name)
        return one is not None and one.state == "waiting"

    def ask(self, name: str, *, running: bool) -> None:
        """Somebody wants one. `running`: it is under way, and is the one that is waited for."""
        known = self._orders.pop(name, None)
        self._orders[name] = Followed() if known is None or known.ended else known
        if running:
            self._orders[name].state = "running"
        if len(self._orders) > MOST:
            self._orders.popitem(last=False)

    def begun(self, name: str) -> None:
        """Its turn has come."""
        one = self._orders.get(name)
        if one is not None and one.state == "waiting":
            one.state = "running"

    def step(self, name: str, words: str) -> None:
        """It has come so far."""
        one = self._orders.get(name)
        if one is not None and not one.ended and len(one.steps) < MOST_STEPS:
            one.steps.append(words)

    def issued(self, name: str, not_after: float) -> None:
        """There is a new certificate."""
        self._end(name, Followed(state="issued", not_after=not_after))

    def failed(self, name: str, problem: str) -> None:
        """It came to nothing; the first reason stays."""
        self._end(name, Followed(state="failed", problem=problem))

    def _end(self, name: str, how: Followed) -> None:
        one = self._orders.get(name)
        if one is not None and one.state == "running":
            one.state, one.problem, one.not_after = how.state, how.problem, how.not_after

"""How often something may happen: `100/min`, or `{rate: 100/min, burst: 20}`."""

from __future__ import annotations

from typing import Annotated

from attrs import field, frozen

from dcrouter.config.forms import Frequency, counted, key


@frozen(kw_only=True)
class Rate:
    """How often something may happen. Tokens come evenly; up to `burst` gather while nothing happens.

    `rate`: (count, seconds).
    """

    rate: Frequency = field(metadata=key("How often."))
    burst: Annotated[int, counted(1, 1_000_000_000_000)] | None = field(
        default=None, metadata=key("How many at once.", default="the rate's own count")
    )

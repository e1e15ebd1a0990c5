"""When a CA wants a certificate renewed (ARI, RFC 9773 section 4)."""

from __future__ import annotations

from attrs import frozen

from dcrouter.errors import AcmeUnreachable
from dcrouter.tls.acme.answers import Answer

ASK_AGAIN = 6 * 3600.0
SOONEST, LATEST = 60.0, 86400.0
"""Seconds until it is asked again: where it does not say, and what is believed of what it says (section 4.3)."""


@frozen(kw_only=True)
class RenewalInfo:
    """The window in which to renew, UTC epoch seconds. `explanation_url`: why, for people. `retry_after`: seconds until
    this is to be asked again.
    """

    start: float
    end: float
    explanation_url: str | None
    retry_after: float

    @classmethod
    def of(cls, answer: Answer) -> RenewalInfo:
        """AcmeUnreachable where the answer makes no sense."""
        fields = answer.fields()
        window = fields.object("suggestedWindow")
        start, end = window.instant("start"), window.instant("end")
        if end < start:
            raise AcmeUnreachable(f"{answer.url}: the window for renewal ends before it begins")
        again = ASK_AGAIN if answer.retry_after is None else answer.retry_after
        return cls(
            start=start,
            end=end,
            explanation_url=fields.text("explanationURL") if "explanationURL" in fields else None,
            retry_after=min(max(again, SOONEST), LATEST),
        )

"""What the operator may ask about bans, and do: `list` (a page at a time), `lift` one or all. JSON-ready."""

from __future__ import annotations

from typing import Any

from dcrouter.mail.server.failures import Failures

PAGE = 500
"""Bans in one answer."""
BAD_REQUEST, NOT_FOUND = 400, 404


def answered(failures: Failures, fields: dict[str, Any]) -> dict[str, Any]:
    """`do`: `list`, with `after` of the page before: {"bans": [{"address", "seconds" that are left}], "next"};
    or `lift`, with `address` or without: {"lifted": how many}.
    """
    if fields["do"] == "list":
        return _page(sorted(failures.listed()), fields.get("after"))
    address = fields.get("address")
    try:
        lifted = failures.lift(address)
    except ValueError:
        return {"error": f"{address!r} is not an IP address", "status": BAD_REQUEST}
    if address is not None and not lifted:
        return {"error": f"{address} is not banned", "status": NOT_FOUND}
    return {"lifted": lifted}


def _page(bans: list[tuple[str, float]], after: str | None) -> dict[str, Any]:
    if after is not None:
        bans = [ban for ban in bans if ban[0] > after]
    page = bans[:PAGE]
    return {
        "bans": [{"address": address, "seconds": round(seconds, 1)} for address, seconds in page],
        "next": page[-1][0] if len(bans) > PAGE else None,
    }

"""What a CA answers, as values: status, headers that matter, and JSON whose fields are what they should be.

Times: RFC 9110 section 10.2.3 (Retry-After), RFC 3339 (in JSON).
"""

from __future__ import annotations

import json
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urljoin, urlsplit

from attrs import frozen

from dcrouter.config.urls import told_url
from dcrouter.errors import AcmeUnreachable

LONGEST_RETRY = 7 * 86400.0
"""Seconds of a Retry-After that are believed: the longest rate limits are counted in weeks."""


@frozen(kw_only=True)
class Answer:
    """`url`: which was asked. `location`: an absolute URL. `retry_after`: seconds. `nonce`: for another request."""

    url: str
    status: int
    body: bytes
    location: str | None = None
    retry_after: float | None = None
    nonce: str | None = None

    def fields(self) -> Fields:
        """The JSON object that it holds; AcmeUnreachable where it holds none."""
        try:
            value = json.loads(self.body)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            where = told_url(self.url)
            raise AcmeUnreachable(f"{where} was answered with {self.status} and no JSON object", status=self.status)
        return Fields(self.url, value)

    def made(self) -> str:
        """The URL of what was made; AcmeUnreachable where it is not told."""
        if self.location is None:
            raise AcmeUnreachable(f"{told_url(self.url)} was answered without Location", status=self.status)
        return self.location


class Fields:
    """A JSON object of a CA; AcmeUnreachable where a field is not what RFC 8555 says."""

    def __init__(self, where: str, values: dict[str, Any]) -> None:
        self._where = where
        self._values = values

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def text(self, key: str) -> str:
        value = self._values.get(key)
        if not isinstance(value, str) or not value:
            raise self._lacks(key, "a string")
        return value

    def url(self, key: str) -> str:
        """An absolute one."""
        return absolute(self._where, self.text(key))

    def texts(self, key: str) -> tuple[str, ...]:
        value = self._values.get(key)
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise self._lacks(key, "a list of strings")
        return tuple(value)

    def object(self, key: str) -> Fields:
        """An empty one where there is none."""
        value = self._values.get(key, {})
        if not isinstance(value, dict):
            raise self._lacks(key, "an object")
        return Fields(self._where, value)

    def objects(self, key: str) -> tuple[Fields, ...]:
        value = self._values.get(key)
        if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
            raise self._lacks(key, "a list of objects")
        return tuple(Fields(self._where, one) for one in value)

    def flag(self, key: str) -> bool:
        return self._values.get(key) is True

    def instant(self, key: str) -> float:
        """UTC epoch seconds."""
        try:
            instant = datetime.fromisoformat(self.text(key))
        except ValueError:
            instant = None
        if instant is None or instant.tzinfo is None:
            raise self._lacks(key, "a time of RFC 3339")
        return instant.timestamp()

    def plain(self) -> dict[str, Any]:
        """The object itself."""
        return self._values

    def _lacks(self, key: str, what: str) -> AcmeUnreachable:
        return AcmeUnreachable(f"{told_url(self._where)}: {key!r} of the answer is not {what}")


def absolute(where: str, url: str) -> str:
    """`url`, which stands in an answer of `where`; AcmeUnreachable where it is none."""
    try:
        found = urljoin(where, url)
        urlsplit(found)
    except ValueError as error:
        raise AcmeUnreachable(f"{told_url(where)}: the answer has a URL that is none") from error
    return found


def seconds_of(text: str | None, now: float) -> float | None:
    """A Retry-After in seconds from `now`, not below 0 and at most LONGEST_RETRY; None where it says nothing."""
    if text is None:
        return None
    text = text.strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:12]), LONGEST_RETRY)
    try:
        seconds = parsedate_to_datetime(text).timestamp() - now
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(seconds, 0.0), LONGEST_RETRY)

"""Notifications, read by somebody else's parser."""

from __future__ import annotations

import email
from email.message import Message


def groups(notice: bytes) -> list[Message]:
    """The fields of the message, then those of each recipient (RFC 3464 2.1)."""
    report = email.message_from_bytes(notice)
    assert report.get_content_type() == "multipart/report", report
    status = report.get_payload(1)
    assert isinstance(status, Message)
    return list(status.walk())[1:]

"""What has arrived in a Maildir."""

from __future__ import annotations

from email import message_from_bytes
from pathlib import Path

from attrs import frozen


@frozen
class Arrived:
    """One delivered message."""

    subject: str
    raw: bytes


def messages(maildir: Path) -> list[Arrived]:
    """All messages of `maildir`, in no order; [] where there is none yet."""
    new = maildir / "new"
    if not new.exists():
        return []
    found = []
    for path in new.iterdir():
        raw = path.read_bytes()
        found.append(Arrived(subject=str(message_from_bytes(raw)["Subject"]), raw=raw))
    return found

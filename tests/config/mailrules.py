"""Mail halves whose rules a test brings."""

from __future__ import annotations

FORWARD = "action: {type: forward, targets: [{host: h.test}]}"
MTA = "action: {type: mta}"
DELIVER = "action: {type: deliver, maildir: 'maildir/{recipient}'}"


def email(*rules: str, postmaster: str = "p@ours.test") -> str:
    """A mail half with these rules, and one at the end that takes postmaster's mail."""
    more = [*rules, f"match: {{recipients: ['*@ours.test']}}, {DELIVER}"]
    lines = [f"    - {{name: r{at}, {rule}}}\n" for at, rule in enumerate(more)]
    return f"email:\n  hostname: mail.test\n  postmaster: {postmaster}\n  rules:\n{''.join(lines)}"

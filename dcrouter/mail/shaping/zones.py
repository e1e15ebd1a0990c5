"""Which zone mail belongs to: the one that its rule names, else the first whose `match` holds, else `default`.

What `match` says is decided once, when the message has come, and kept with each recipient; the rule's word is asked for
at each attempt, as all that rules say.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from dcrouter.config.zones import DEFAULT, Zone, ZoneMatch
from dcrouter.mail.envelope import Client
from dcrouter.match.addresses import Networks
from dcrouter.match.headers import Headers
from dcrouter.match.recipients import RecipientPatterns
from dcrouter.wire.header import Head


class Zones:
    """The matches of one configuration."""

    def __init__(self, zones: Mapping[str, Zone]) -> None:
        self._matches = [
            (name, _Match(zone.match)) for name, zone in zones.items() if zone.match is not None and name != DEFAULT
        ]
        self.ask_header = any(match.headers is not None for _, match in self._matches)

    def __bool__(self) -> bool:
        """Whether there is anything to ask."""
        return bool(self._matches)

    def of(self, client: Client, sender: str, head: bytes) -> Callable[[str], str]:
        """For a message that has come: recipient -> zone, "" for none. `head`: its header block, where `ask_header`."""
        header = Head(head) if self.ask_header else None
        open_ = [
            (name, match.recipients)
            for name, match in self._matches
            if match.meets(client, sender) and match.in_header(header)
        ]

        def zone(address: str) -> str:
            return next((name for name, those in open_ if those is None or those.matches(address)), "")

        return zone


class _Match:
    def __init__(self, match: ZoneMatch) -> None:
        self.recipients = None if match.recipients is None else RecipientPatterns(match.recipients)
        self.headers = Headers(match.headers) if match.headers else None
        self._senders = None if match.senders is None else RecipientPatterns(match.senders)
        self._networks = None if match.client_ips is None else Networks(match.client_ips)

    def in_header(self, header: Head | None) -> bool:
        return self.headers is None or (header is not None and self.headers.hold(header))

    def meets(self, client: Client, sender: str) -> bool:
        if self._networks is not None and not self._networks.covers(client.address):
            return False
        return self._senders is None or self._senders.matches(sender)

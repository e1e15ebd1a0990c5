"""What is known of a connection so far: filled from accept to close, read by matching, actions, logs and the mail half.

A plain, mutable record because it is made for every connection on the hot path; everything in it can cross a process
border as JSON (`to_plain`, `from_plain`).
"""

from __future__ import annotations

from typing import Any

Endpoint = tuple[str, int]
"""(address as text, port); an IPv4 client of an IPv6 socket is written as IPv4."""


class ConnectionFacts:
    """One connection. `session`: its id in every log line. `peer`: the true client, from a PROXY header where one was
    due.

    `local`: the address that the client connected to. `via`: the address of the proxy that spoke for the client, or
    None. `accepted`: UTC epoch seconds. `sni`, `alpn`, `tls_version`: from the ClientHello or the handshake, None
    where not known. `kind`: smtp, submission or smtps on mail routes.
    """

    __slots__ = ("accepted", "alpn", "kind", "local", "peer", "route", "session", "sni", "tls_version", "via")

    def __init__(self, session: str, peer: Endpoint, local: Endpoint, accepted: float) -> None:
        self.session = session
        self.peer = peer
        self.local = local
        self.accepted = accepted
        self.via: str | None = None
        self.sni: str | None = None
        self.alpn: str | None = None
        self.tls_version: str | None = None
        self.route: str | None = None
        self.kind: str | None = None

    def to_plain(self) -> dict[str, Any]:
        """As JSON-ready values, for another process."""
        return {
            "session": self.session,
            "peer": self.peer,
            "local": self.local,
            "accepted": self.accepted,
            "via": self.via,
            "sni": self.sni,
            "alpn": self.alpn,
            "tls_version": self.tls_version,
            "route": self.route,
            "kind": self.kind,
        }

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> ConnectionFacts:
        """The inverse of `to_plain`; KeyError where something is missing."""
        facts = cls(plain["session"], tuple(plain["peer"]), tuple(plain["local"]), plain["accepted"])
        facts.via = plain["via"]
        facts.sni = plain["sni"]
        facts.alpn = plain["alpn"]
        facts.tls_version = plain["tls_version"]
        facts.route = plain["route"]
        facts.kind = plain["kind"]
        return facts

"""What is known of a connection so far: filled from accept to close, read by matching, actions, logs and the mail half.

A plain, mutable record because it is made for every connection on the hot path; everything in it can cross a process
border as JSON (`to_plain`, `from_plain`).
"""

from __future__ import annotations

from typing import Any

from attrs import asdict, frozen

from dcrouter.wire.clienthello import ClientHello
from dcrouter.wire.proxytlvs import NOTHING_TOLD, Told

Endpoint = tuple[str, int]
"""(address as text, port); an IPv4 client of an IPv6 socket is written as IPv4."""


@frozen
class Introduction:
    """What a PROXY header said beside who the client is: where that had connected to, and what `told` names."""

    destination: Endpoint | None = None
    told: Told = NOTHING_TOLD

    def to_plain(self) -> dict[str, Any]:
        """As JSON-ready values, what is not known left out; the unique id, which may be any bytes, in hex."""
        plain = {name: value for name, value in asdict(self.told).items() if value not in (None, False)}
        if self.told.unique_id is not None:
            plain["unique_id"] = self.told.unique_id.hex()
        if self.destination is not None:
            plain["destination"] = self.destination
        return plain

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Introduction:
        """The inverse of `to_plain`."""
        said = dict(plain)
        destination = said.pop("destination", None)
        if "unique_id" in said:
            said["unique_id"] = bytes.fromhex(said["unique_id"])
        return cls(None if destination is None else tuple(destination), Told(**said))


class ConnectionFacts:
    """One connection. `session`: its id in every log line. `peer`: the true client, from a PROXY header where one was
    due.

    `local`: the address that the client connected to. `via`: the address of the proxy that spoke for the client, or
    None. `accepted`: UTC epoch seconds. `sni`, `alpn`, `tls_version`: from the ClientHello or the handshake, None
    where not known. `kind`: smtp, submission or smtps on mail routes. `introduction`: what the proxy at `via` said.
    `hello`: the ClientHello, as long as a route may still ask for it; it stays in its process.
    `client_certificate`: the subject of the certificate that the client has proved to own (RFC 4514).
    """

    __slots__ = (
        "accepted",
        "alpn",
        "client_certificate",
        "hello",
        "introduction",
        "kind",
        "local",
        "peer",
        "route",
        "session",
        "sni",
        "tls_version",
        "via",
    )

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
        self.hello: ClientHello | None = None
        self.introduction: Introduction | None = None
        self.client_certificate: str | None = None

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
            "introduction": None if self.introduction is None else self.introduction.to_plain(),
            "client_certificate": self.client_certificate,
        }

    def shown(self, now: float, *, target: str | None, bytes_in: int, bytes_out: int, phase: str) -> dict[str, Any]:
        """What an operator sees of the connection while it is open, JSON-ready. `now`: UTC epoch seconds."""
        return {
            "session": self.session,
            "route": self.route,
            "peer": self.peer,
            "local": self.local,
            "sni": self.sni,
            "target": target,
            "age": round(now - self.accepted, 3),
            "bytes_in": bytes_in,
            "bytes_out": bytes_out,
            "phase": phase,
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
        if plain["introduction"] is not None:
            facts.introduction = Introduction.from_plain(plain["introduction"])
        facts.client_certificate = plain["client_certificate"]
        return facts

"""The PROXY header by which a target learns whose connection it gets: `action.proxy_protocol`.

What a proxy in front of us has told is passed on, as far as we do not know better: what we saw and ended ourselves
counts more than what we were told. A unique id stays the same through all proxies; where there is none yet, it is the
session's id, so that the logs of both sides can be compared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography.x509 import Certificate
from cryptography.x509.oid import NameOID

from dcrouter.facts import Introduction
from dcrouter.net.stream import Tls
from dcrouter.wire.proxyheader import Version, build_v1, build_v2
from dcrouter.wire.proxytlvs import Told

if TYPE_CHECKING:
    from dcrouter.proxy.session import Session

_NOBODY = Introduction()


def introduction(session: Session, version: Version) -> bytes:
    """The header for the client of `session`; its destination is where the client itself connected to."""
    facts = session.facts
    known = facts.introduction or _NOBODY
    destination = known.destination or facts.local
    if version == "v1":
        return build_v1(facts.peer, destination)
    told = known.told
    unique_id = told.unique_id or facts.session.encode()
    stream = session.stream
    if isinstance(stream, Tls):
        return build_v2(facts.peer, destination, _ended_here(stream, facts.sni, unique_id))
    return build_v2(
        facts.peer,
        destination,
        Told(
            authority=facts.sni or told.authority,
            alpn=told.alpn,
            unique_id=unique_id,
            tls_version=told.tls_version,
            cipher=told.cipher,
            client_name=told.client_name,
            client_verified=told.client_verified,
        ),
    )


def _ended_here(stream: Tls, sni: str | None, unique_id: bytes) -> Told:
    connection = stream.connection
    # Whoever got through the handshake with a certificate has it verified: there is no mode that lets others in.
    certificate = connection.get_peer_certificate(as_cryptography=True)
    return Told(
        authority=sni or stream.asked_name(),
        alpn=connection.get_alpn_proto_negotiated().decode("latin-1") or None,
        unique_id=unique_id,
        tls_version=connection.get_protocol_version_name(),
        cipher=connection.get_cipher_name(),
        client_name=None if certificate is None else _common_name(certificate),
        client_verified=certificate is not None,
    )


def _common_name(certificate: Certificate) -> str | None:
    """The last one, which is the most specific; None where there is none that is text."""
    try:
        names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    except ValueError:
        return None
    return str(names[-1].value) if names else None

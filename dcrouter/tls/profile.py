"""TLS contexts: what we offer to clients, and what we ask of targets.

A server context holds every credential of one name side by side (ECDSA and RSA), and is immutable from its first
connection on: a renewed certificate is a new context. No callback chooses among certificates, because the name is known
before the handshake (the ClientHello is peeked). Groups are OpenSSL's own, X25519MLKEM768 first.

Profiles: Mozilla's Server Side TLS (`modern` is TLS 1.3 only). TLS 1.3: RFC 8446; ALPN: RFC 7301.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from OpenSSL import SSL
from OpenSSL.crypto import X509StoreFlags

from dcrouter.config.targets import UpstreamTls
from dcrouter.config.tls import TlsProfile
from dcrouter.errors import TlsError
from dcrouter.tls.clients import ClientCheck
from dcrouter.tls.credential import Credential
from dcrouter.tls.trust import certificates_of, system_trust

_TLS13_SUITES = ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"]

# As Mozilla has them in version 6.0 of its guidelines; the client's order counts.
_INTERMEDIATE = [
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
]

# From openssl/ssl.h; pyOpenSSL names only some of the modes, and sets ENABLE_PARTIAL_WRITE by itself: a call writes one
# record at least. After WantWrite the same bytes are offered again (SSL_write(3)).
_ACCEPT_MOVING_WRITE_BUFFER = 0x2
_NO_AUTO_CHAIN = (
    0x8  # we send the chain we were given: searching one at every handshake costs more than the key exchange
)
_MODES = _ACCEPT_MOVING_WRITE_BUFFER | SSL.MODE_RELEASE_BUFFERS | _NO_AUTO_CHAIN

_OPTIONS = SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_COMPRESSION
_SESSION_ID = b"dcrouter"


def server_context(
    credentials: Sequence[Credential],
    profile: TlsProfile,
    alpn: Sequence[str] = (),
    clients: ClientCheck | None = None,
) -> SSL.Context:
    """A context that proves to be any of `credentials`, at most one of each key type; the caller keeps it.

    `alpn`: what we speak, best first; a client that offers by ALPN nothing of it is told so, and its handshake fails
    with TlsError. `clients`: what they must prove.

    Raises TlsError where a credential, an authority or the profile's cipher string cannot be used.
    """
    context = _context(SSL.TLS_SERVER_METHOD)
    _apply(context, profile)
    # Tickets carry the session (RFC 8446 4.6.1): nothing is kept here, however many clients come.
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_session_id(_SESSION_ID)
    try:
        for credential in credentials:
            _add(context, credential, alone=len(credentials) == 1)
    except (SSL.Error, ValueError, OSError) as error:
        names = ", ".join(name for credential in credentials for name in credential.names)
        raise TlsError(f"the certificate for {names} cannot be used: {error}") from error
    if alpn:
        context.set_alpn_select_callback(_preference(alpn))
    if clients is not None:
        clients.apply(context)
    return context


def client_context(
    upstream: UpstreamTls, ca_pem: bytes | None, alpn: Sequence[str] = (), credential: Credential | None = None
) -> SSL.Context:
    """A context for connections to targets: verified against `ca_pem`, or the system's trust where that is None.

    `upstream.ca` is not read here: its bytes come from the parent, as does `credential`, which is what we show of
    `upstream.client_certificate`. The name is checked after the handshake (tls/peer.py). Raises TlsError where `ca_pem`
    holds no certificate.
    """
    context = _context(SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    if upstream.verify:
        store = context.get_cert_store()
        assert store is not None
        for certificate in certificates_of(system_trust() if ca_pem is None else ca_pem):
            store.add_cert(certificate)
        if ca_pem is not None:
            store.set_flags(
                X509StoreFlags.PARTIAL_CHAIN
            )  # an operator may trust an intermediate, or the target's own certificate
        context.set_verify(SSL.VERIFY_PEER)
    else:
        context.set_verify(SSL.VERIFY_NONE)
    if credential is not None:
        try:
            _add(context, credential, alone=True)
        except (SSL.Error, ValueError) as error:
            raise TlsError(f"the client certificate of {credential.file} cannot be used: {error}") from error
    if alpn:
        context.set_alpn_protos([name.encode("latin-1") for name in alpn])
    return context


def _preference(alpn: Sequence[str]) -> Callable[[SSL.Connection, list[bytes]], Any]:
    """The server's choice among the client's offer, by our order; the alert no_application_protocol where it has none
    (RFC 7301 3.2): an error raised here is that alert.
    """
    ours = [name.encode("ascii") for name in alpn]

    def choose(connection: SSL.Connection, offer: list[bytes]) -> Any:
        chosen = next((name for name in ours if name in offer), None)
        if chosen is None:
            raise TlsError(f"the client speaks {_words(offer)} (ALPN), not {_words(ours)}")
        return chosen

    return choose


def _words(protocols: Sequence[bytes]) -> str:
    """The first of them, for a line of the log."""
    return ", ".join(name.decode("ascii", "backslashreplace") for name in protocols[:5])


def _context(method: int) -> SSL.Context:
    context = SSL.Context(method)
    context.set_options(_OPTIONS)
    context.set_mode(_MODES)
    return context


def _apply(context: SSL.Context, profile: TlsProfile) -> None:
    """Versions and suites. Of an OpenSSL string, names that begin with TLS_ are suites of TLS 1.3, the rest of 1.2."""
    newest, older = _TLS13_SUITES, _INTERMEDIATE
    if profile.ciphers == "modern":
        older = []
    elif profile.ciphers != "intermediate":
        given = profile.ciphers.split(":")
        newest = [name for name in given if name.startswith("TLS_")] or _TLS13_SUITES
        older = [name for name in given if not name.startswith("TLS_")]
    only_newest = profile.min_version == "TLSv1.3" or not older
    try:
        context.set_min_proto_version(SSL.TLS1_3_VERSION if only_newest else SSL.TLS1_2_VERSION)
        context.set_tls13_ciphersuites(":".join(newest).encode())
        if older:
            context.set_cipher_list(":".join(older).encode())
    except (SSL.Error, UnicodeEncodeError) as error:
        raise TlsError(f"tls.ciphers: OpenSSL knows no suite of {profile.ciphers!r}") from error


def _add(context: SSL.Context, credential: Credential, *, alone: bool) -> None:
    certificates = credential.certificates()
    if alone or len(certificates) == 1:
        context.use_certificate(certificates[0])
        for issuer in certificates[1:]:
            context.add_extra_chain_cert(issuer)
    else:
        _use_chain(context, credential.chain)
    context.use_privatekey(credential.private_key())
    context.check_privatekey()


def _use_chain(context: SSL.Context, chain: bytes) -> None:
    """Each key type has its own issuers, and the only door for that takes a file: one in memory."""
    descriptor = os.memfd_create("chain", os.MFD_CLOEXEC)
    with os.fdopen(descriptor, "wb") as file:
        file.write(chain)
        file.flush()
        context.use_certificate_chain_file(f"/proc/self/fd/{descriptor}")

"""What the operator wrote about automatic certificates: who issues them (RFC 8555), and how we prove our names."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Annotated, Literal

from attrs import field, frozen

from dcrouter.config.findings import meant
from dcrouter.config.forms import Form, ReadPath, Secret, ServerAddress, Share, key
from dcrouter.config.rates import Rate
from dcrouter.config.units import shown
from dcrouter.config.urls import UrlText, split_url

KNOWN = {
    "letsencrypt": "https://acme-v02.api.letsencrypt.org/directory",
    "letsencrypt-staging": "https://acme-staging-v02.api.letsencrypt.org/directory",
    "zerossl": "https://acme.zerossl.com/v2/DV90",
}
"""Directories that have a word of their own: public authorities, which certify public names only."""

ChallengeKind = Literal["tls-alpn-01", "http-01", "dns-01"]
AcmeKeyType = Literal["ecdsa-p256", "ecdsa-p384", "rsa-2048", "rsa-4096"]

_EMAIL = re.compile(r"[!-?A-~]+@[!-?A-~]+")


def directory_url(text: str) -> str:
    """The URL of a directory that may be written as a word."""
    return KNOWN.get(text, text)


def _directory(text: str) -> str:
    if text in KNOWN:
        return text
    if "://" not in text:
        raise ValueError(f"{shown(text)} is not one of {', '.join(KNOWN)}, nor a URL{meant(text, KNOWN)}")
    if split_url(text).scheme != "https":
        raise ValueError(f"{shown(text)} is not an https URL (RFC 8555 section 6.1)")
    return text


def _email(text: str) -> str:
    if _EMAIL.fullmatch(text) is None:
        raise ValueError(f"{shown(text)} is not a mail address")
    return text


def _command(text: str) -> str:
    if not text or "\0" in text:
        raise ValueError("a command's word cannot be empty" if not text else "a command's word has no NUL")
    return text


def hmac_key(secret: str) -> bytes:
    """The octets of an EAB key, which authorities print in base64url; ValueError where it is none."""
    text = str.__str__(secret).strip().rstrip("=").replace("+", "-").replace("/", "_")
    try:
        found = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("the HMAC key is not base64url") from None
    if not found:
        raise ValueError("the HMAC key is empty")
    return found


DirectoryText = Annotated[
    str,
    Form(
        name="directory",
        words="`letsencrypt`, `letsencrypt-staging`, `zerossl`, or the URL of an RFC 8555 directory",
        read=_directory,
        schema={"anyOf": [{"enum": list(KNOWN)}, {"type": "string", "pattern": "^https://"}]},
    ),
]
ContactEmail = Annotated[
    str, Form(name="contact", words="a mail address", read=_email, schema={"type": "string", "pattern": "@"})
]
Word = Annotated[str, Form(name="word", words="text", read=_command, schema={"type": "string", "minLength": 1})]


@frozen(kw_only=True)
class ExternalAccount:
    """The account with the authority that ours is bound to (RFC 8555 section 7.3.4)."""

    key_id: Word = field(metadata=key("The key's identifier, as the authority says it."))
    hmac_key: Secret = field(metadata=key("The key itself, in base64url; better as {file: path}."))


@frozen(kw_only=True)
class DnsProvider:
    """Who publishes the TXT records of dns-01."""

    provider: Literal["rfc2136", "exec"] = field(
        metadata=key("`rfc2136`: a name server that takes updates, signed by TSIG; `exec`: a command.")
    )
    server: ServerAddress | None = field(default=None, metadata=key("rfc2136: the primary name server.", default=""))
    key_name: Word | None = field(default=None, metadata=key("rfc2136: the name of the TSIG key.", default=""))
    key_secret: Secret | None = field(
        default=None, metadata=key("rfc2136: the TSIG key in base64 (hmac-sha256); better as {file: path}.", default="")
    )
    command: tuple[Word, ...] | None = field(
        default=None,
        metadata=key(
            "exec: run with `present` or `cleanup`, the record's name and its value behind these words.",
            default="",
            nonempty="there is nothing to run",
        ),
    )


@frozen(kw_only=True)
class Acme:
    """Certificates of an authority that issues them by itself (RFC 8555)."""

    email: ContactEmail | None = field(
        default=None, metadata=key("Where the authority can reach you.", default="none is told")
    )
    directory: DirectoryText = field(default="letsencrypt", metadata=key("Who issues."))
    fallback: tuple[DirectoryText, ...] = field(
        default=(), metadata=key("Who is asked, in order, when the first refuses.", default="nobody")
    )
    ca_file: ReadPath | None = field(
        default=None, metadata=key("PEM file of whom to trust for the directory itself.", default="the system's")
    )
    external_account: ExternalAccount | None = field(
        default=None, metadata=key("The account with the authority that ours is bound to.", default="none")
    )
    challenges: tuple[ChallengeKind, ...] = field(
        default=("tls-alpn-01", "http-01"),
        metadata=key("How we prove that a name is ours, best first.", nonempty="nothing could be proved"),
    )
    key_type: AcmeKeyType = field(default="ecdsa-p256", metadata=key("Of the keys of new certificates."))
    profile: Word | None = field(
        default=None, metadata=key("Which of the authority's profiles to ask for.", default="the authority's own")
    )
    renew_at: Share = field(
        default=0.67,
        metadata=key("The share of its lifetime after which a certificate is renewed, where there is no ARI."),
    )
    dns: DnsProvider | None = field(
        default=None, metadata=key("Who publishes the records of dns-01.", default="none: dns-01 needs it")
    )

    @property
    def directories(self) -> tuple[str, ...]:
        """The URLs, in the order in which they are asked, each once."""
        return tuple(dict.fromkeys(directory_url(one) for one in (self.directory, *self.fallback)))

    @property
    def is_public(self) -> bool:
        """Whether only names of the public DNS can be certified."""
        return self.directory in KNOWN


@frozen(kw_only=True)
class OnDemand:
    """Certificates for names that are only known when a client asks for them."""

    ask: UrlText = field(metadata=key("Asked with `?domain=NAME`; 2xx means that the name may have a certificate."))
    rate: Rate = field(
        factory=lambda: Rate(rate=(10, 60.0)), metadata=key("New names in a time, at most.", default="10/min")
    )

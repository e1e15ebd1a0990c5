"""TLS reports: who wants them, and what is in one. RFC 8460.

A domain asks for them by a TXT record at `_smtp._tls`; once a day it is told how the TLS of our sessions to its
exchangers went, as gzipped JSON.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Sequence
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from attrs import frozen

from dcrouter.wire.moments import utc

PolicyType = Literal["tlsa", "sts", "no-policy-found"]

FailureType = Literal[
    "starttls-not-supported",
    "certificate-host-mismatch",
    "certificate-expired",
    "certificate-not-trusted",
    "validation-failure",
    "tlsa-invalid",
    "dnssec-invalid",
    "dane-required",
    "sts-policy-fetch-error",
    "sts-policy-invalid",
    "sts-webpki-invalid",
]
"""Section 4.3."""

MAX_ADDRESSES = 5
"""To which one report goes."""

_RECORD = re.compile(r"v=TLSRPTv1[ \t]*;(?P<fields>.*)", re.ASCII | re.DOTALL)


@frozen(kw_only=True)
class Policy:
    """What was known of how a domain wants its mail, `lines` as they stand; `hosts`: patterns of its policy."""

    type: PolicyType
    domain: str
    lines: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()


@frozen(kw_only=True)
class FailureKind:
    """Sessions that failed alike. `host`, `address`: of the exchanger; `ours`: the address that it was reached from."""

    type: FailureType
    host: str = ""
    address: str = ""
    ours: str = ""
    reason: str = ""


@frozen(kw_only=True)
class Section:
    """The sessions of one day under one policy. `failures`: how many of each kind."""

    policy: Policy
    successful: int
    failures: tuple[tuple[FailureKind, int], ...] = ()


def addresses_of(texts: Sequence[str]) -> tuple[str, ...]:
    """The URIs that a domain's TXT records ask to report to: `mailto:` and `https:`, in their order (section 3)."""
    found = [match for match in map(_RECORD.fullmatch, texts) if match is not None]
    if len(found) != 1:
        return ()
    fields = [part.strip(" \t").partition("=") for part in found[0]["fields"].split(";")]
    given = next((value for key, _, value in fields if key.strip(" \t") == "rua"), "")
    addresses = [address.strip(" \t") for address in given.split(",")]
    return tuple(dict.fromkeys(one for one in addresses if _is_good(one)))[:MAX_ADDRESSES]


def mailbox_of(uri: str) -> str | None:
    """Whom a `mailto:` means, None for another."""
    if uri[:7].lower() != "mailto:":
        return None
    return unquote(uri[7:].partition("?")[0])


def _is_good(uri: str) -> bool:
    mailbox = mailbox_of(uri)
    if mailbox is not None:
        return "@" in mailbox and mailbox.isprintable()
    try:
        parts = urlsplit(uri)
    except ValueError:
        return False
    return parts.scheme == "https" and bool(parts.hostname) and uri.isascii() and uri.isprintable()


def report(
    *, id: str, organization: str, contact: str, begin: float, end: float, sections: Sequence[Section]
) -> dict[str, Any]:
    """What is told of a time from `begin` to `end`, UTC epoch seconds; JSON-ready (section 4.4)."""
    return {
        "organization-name": organization,
        "date-range": {"start-datetime": utc(begin), "end-datetime": utc(end)},
        "contact-info": contact,
        "report-id": id,
        "policies": [_section(section) for section in sections],
    }


def packed(told: dict[str, Any]) -> bytes:
    """As it is sent: gzipped."""
    return gzip.compress(json.dumps(told, ensure_ascii=False).encode("utf-8"), mtime=0)


def file_name(organization: str, domain: str, begin: float, end: float) -> str:
    """Section 5.1."""
    return f"{organization}!{domain}!{int(begin)}!{int(end)}.json.gz"


def _section(section: Section) -> dict[str, Any]:
    policy: dict[str, Any] = {"policy-type": section.policy.type, "policy-domain": section.policy.domain}
    if section.policy.lines:
        policy["policy-string"] = list(section.policy.lines)
    if section.policy.hosts:
        policy["mx-host"] = list(section.policy.hosts)
    told: dict[str, Any] = {
        "policy": policy,
        "summary": {
            "total-successful-session-count": section.successful,
            "total-failure-session-count": sum(count for _, count in section.failures),
        },
    }
    if section.failures:
        told["failure-details"] = [_failure(kind, count) for kind, count in section.failures]
    return told


def _failure(kind: FailureKind, count: int) -> dict[str, Any]:
    told = {
        "result-type": kind.type,
        "sending-mta-ip": kind.ours,
        "receiving-mx-hostname": kind.host,
        "receiving-ip": kind.address,
        "failure-reason-code": kind.reason,
    }
    return {key: value for key, value in told.items() if value} | {"failed-session-count": count}

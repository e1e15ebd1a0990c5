"""What must hold within `certificates.acme`: keys that can be read, and what its challenges need.

The directory's own authorities are looked at with all other files (checks/files.py).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from typing import Any

from dns import name
from dns.exception import DNSException

from dcrouter.config.acme import Acme, DnsProvider, ExternalAccount, OnDemand, hmac_key
from dcrouter.config.place import Place
from dcrouter.config.units import shown

NEEDED = {"rfc2136": ("server", "key_name", "key_secret"), "exec": ("command",)}
"""Of the keys of `dns`: those that a provider cannot do without, and others have no use for."""
LEAST_LEFT = 0.05
"""The share of its lifetime that a certificate has left when it is renewed, at least: what fails needs time."""


def check_acme(acme: Acme, place: Place) -> Acme:
    """All that a value says of itself."""
    if "dns-01" in acme.challenges and acme.dns is None and not place.says("dns"):
        place.at("challenges").tell("dns-01 needs `dns`: who publishes its records")
    if acme.dns is not None and "dns-01" not in acme.challenges:
        place.at("dns").warn("nobody asks it: dns-01 is not among `challenges`")
    for at, one in enumerate(acme.challenges):
        if one in acme.challenges[:at]:
            place.at("challenges", at).warn(f"{one} stands there twice")
    for at, directory in enumerate(acme.fallback):
        if directory in (acme.directory, *acme.fallback[:at]):
            place.at("fallback", at).warn(f"{directory} has been asked before")
    if "zerossl" in (acme.directory, *acme.fallback) and not place.says("external_account"):
        where = place.at("directory") if acme.directory == "zerossl" else place.at("fallback")
        where.tell("zerossl needs `external_account`, which its web pages make")
    if not 0 < acme.renew_at <= 1 - LEAST_LEFT:
        place.at("renew_at").tell(f"a certificate is renewed in its lifetime: more than 0, at most {1 - LEAST_LEFT}")
    return acme


def _external(account: ExternalAccount, place: Place) -> ExternalAccount:
    try:
        hmac_key(account.hmac_key)
    except ValueError as error:
        place.at("hmac_key").tell(str(error))
    return account


def _dns(dns: DnsProvider, place: Place) -> DnsProvider:
    for word in NEEDED[dns.provider]:
        if not place.says(word):
            place.tell(f"'{word}' is missing: {dns.provider} needs it")
    for provider, words in NEEDED.items():
        for word in words if provider != dns.provider else ():
            if place.says(word):
                place.at(word).tell(f"belongs to {provider}: {dns.provider} has no use for it")
    if dns.key_name is not None:
        try:
            name.from_text(dns.key_name)
        except DNSException:
            place.at("key_name").tell(f"{shown(dns.key_name)} is not the name of a TSIG key, which is a DNS name")
    if dns.key_secret is not None:
        try:
            key = base64.b64decode(str.__str__(dns.key_secret).strip(), validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if not key:
            place.at("key_secret").tell("the TSIG key is not base64")
    return dns


def _on_demand(on_demand: OnDemand, place: Place) -> OnDemand:
    if "#" in on_demand.ask or "domain=" in on_demand.ask.partition("?")[2]:
        place.at("ask").tell("`domain=NAME` is added to it: leave it out")
    return on_demand


ACME: Mapping[type, Callable[[Any, Place], Any]] = {
    DnsProvider: _dns,
    ExternalAccount: _external,
    OnDemand: _on_demand,
}

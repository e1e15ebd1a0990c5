"""A checked configuration as JSON-ready values, for the child processes, and back.

Both ends are the same version of dcrouter: nothing is validated again, and what has its default is left out.
"""

from __future__ import annotations

from functools import cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any, get_args

from cattrs import Converter
from cattrs.strategies import configure_tagged_union

from dcrouter.config.actions import Action
from dcrouter.config.admin import Config
from dcrouter.config.egress import EgressRule
from dcrouter.config.forms import HostPort, Secret
from dcrouter.config.keys import variants_of
from dcrouter.config.match import Address, Network
from dcrouter.config.routes import Route
from dcrouter.config.rules import MailAction
from dcrouter.config.tls import CertificateChoice, CertificateFiles


def to_plain(config: Config) -> dict[str, Any]:
    """Only dicts with text as keys, lists, text, numbers, booleans and None."""
    plain: dict[str, Any] = _converter().unstructure(config)
    return plain


def from_plain(plain: dict[str, Any]) -> Config:
    """The inverse of `to_plain`."""
    return _converter().structure(plain, Config)


def route_from_plain(plain: dict[str, Any]) -> Route:
    """One of the routes in what `to_plain` gave: many take a while, and who cannot wait takes them one by one."""
    return _converter().structure(plain, Route)


def egress_rules_to_plain(rules: tuple[EgressRule, ...]) -> list[dict[str, Any]]:
    """Rules that are said apart from a configuration, by code of the operator's."""
    plain: list[dict[str, Any]] = _converter().unstructure(rules)
    return plain


def egress_rules_from_plain(plain: list[dict[str, Any]]) -> tuple[EgressRule, ...]:
    """The inverse."""
    return _converter().structure(plain, tuple[EgressRule, ...])


@cache
def _converter() -> Converter:
    converter = Converter(omit_if_default=True, detailed_validation=False, unstruct_collection_overrides={tuple: list})
    for texts in (IPv4Address, IPv6Address, IPv4Network, IPv6Network, Path):
        converter.register_unstructure_hook(texts, str)
    converter.register_structure_hook(Address, lambda text, _: ip_address(text))
    converter.register_structure_hook(Address | None, lambda text, _: ip_address(text) if text is not None else None)
    converter.register_structure_hook(Network, lambda text, _: ip_network(text))
    converter.register_structure_hook(Path, lambda text, _: Path(text))
    converter.register_structure_hook(Secret, lambda text, _: Secret(text))
    converter.register_unstructure_hook(Secret, lambda secret: str.__str__(secret))
    converter.register_structure_hook(HostPort | Path, _place)
    converter.register_structure_hook(CertificateChoice, _certificate_choice(converter))
    for union in (Action, MailAction):
        words = {cls: word for word, cls in variants_of(union).items()}
        configure_tagged_union(union, converter, tag_name="type", tag_generator=words.__getitem__)
    return converter


def _place(plain: Any, _: Any) -> HostPort | Path:
    return Path(plain) if isinstance(plain, str) else HostPort(plain["host"], plain["port"])


def _certificate_choice(converter: Converter) -> Any:
    words = get_args(CertificateChoice)

    def structure(plain: Any, _: Any) -> Any:
        return plain if isinstance(plain, str) else converter.structure(plain, CertificateFiles)

    assert CertificateFiles in words
    return structure

"""What the mail process asks: how a connection to another mail server is made, as a callable of the operator's says.

The answer goes back as one of: `rules` (as plain values; `whole`: they say themselves what happens when no proxy
works), `direct`, `endpoint` (a description), or nothing. Whatever is wrong with it is told as `error`, without any
password.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from twisted.internet.endpoints import clientFromString

from dcrouter.config.document import compose
from dcrouter.config.egress import EgressRule
from dcrouter.config.findings import Findings
from dcrouter.config.place import Invalid, Place
from dcrouter.config.plain import egress_rules_to_plain
from dcrouter.config.read import Reader
from dcrouter.interfaces import ByEndpoint, Departure

DIRECT = "direct"
MOST_RULES = 100


def departure_of(fields: Mapping[str, Any]) -> Departure:
    """What is asked about."""
    return Departure(**fields["departure"])


def telling(reactor: Any) -> Callable[[Any], dict[str, Any]]:
    """What turns an Egress into an answer; TypeError and ValueError where it is none."""

    def told(choice: Any) -> dict[str, Any]:
        match choice:
            case None:
                return {}
            case "direct":
                return {"direct": True}
            case str():
                return {"rules": _rules([{"through": [choice]}])}
            case ByEndpoint():
                clientFromString(reactor, choice.description)
                return {"endpoint": choice.description}
            case Mapping():
                return {"rules": _rules([choice]), "whole": True}
            case Sequence() if choice and all(isinstance(one, str) for one in choice):
                return {"rules": _rules([{"through": list(choice)}])}
            case Sequence() if choice and all(isinstance(one, Mapping) for one in choice):
                return {"rules": _rules(choice), "whole": True}
        raise TypeError(f"a {type(choice).__name__} says nothing: 'direct', proxies, rules, an endpoint or None")

    return told


def _rules(wanted: Sequence[Any]) -> list[dict[str, Any]]:
    """Rules as they are written in the file, as plain values."""
    if len(wanted) > MOST_RULES:
        raise ValueError(f"{len(wanted)} rules, more than {MOST_RULES}")
    findings = Findings()
    text = json.dumps([dict(one) for one in wanted]).replace("${", "$${")
    root = compose(text, {}, findings)
    rules: list[EgressRule] = []
    if root is not None:
        reader = Reader(Path("/"))
        for place in Place.root(root, findings).items():
            try:
                rules.append(reader.read(place, EgressRule))
            except Invalid:
                continue
    if findings.problems:
        raise ValueError("; ".join(one.show("").partition(": ")[2] for one in findings.problems))
    if any(rule.select is not None for rule in rules):
        raise ValueError("a rule that asks code again")
    return egress_rules_to_plain(tuple(rules))

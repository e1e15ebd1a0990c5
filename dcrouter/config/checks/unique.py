"""Names that are told twice. Read from the document itself, so that an entry that is wrong elsewhere counts too."""

from __future__ import annotations

from collections.abc import Iterable

from dcrouter.config.effective import mail_route_name
from dcrouter.config.mail import Email
from dcrouter.config.nodes import Scalar, Sequence
from dcrouter.config.place import Place
from dcrouter.config.units import shown


def check_names(root: Place, email: Email | None) -> None:
    """Of routes, generated ones included, and of rules."""
    generated = {mail_route_name(port): "a route of email.ports" for port in email.ports} if email is not None else {}
    _check(root.at("routes"), "routes", generated)
    _check(root.at("email", "rules"), "rules", {})


def _check(places: Place, word: str, taken: dict[str, str]) -> None:
    for place in _names(places, word):
        node = place.node
        assert isinstance(node, Scalar)
        if node.text in taken:
            place.tell(f"{shown(node.text)} is also the name of {taken[node.text]}")
        else:
            taken[node.text] = f"{'.'.join(map(str, places.path))}[{place.path[-2]}]"


def _names(places: Place, word: str) -> Iterable[Place]:
    if places.step != word or not isinstance(places.node, Sequence):
        return
    for at in range(len(places.node.items)):
        place = places.at(at, "name")
        if place.step == "name" and isinstance(place.node, Scalar) and not place.node.broken:
            yield place

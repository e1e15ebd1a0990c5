"""What must hold within the keys of a route that only HTTP has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from dcrouter.config.actions import MailHandover, Static
from dcrouter.config.effective import carries_http
from dcrouter.config.htpasswd import read_users
from dcrouter.config.http import Headers, Hsts, PathRewrite, RequestHeaders, ResponseHeaders
from dcrouter.config.httpkeys import feature_keys
from dcrouter.config.place import Place
from dcrouter.config.routes import Route
from dcrouter.config.security import BasicAuth
from dcrouter.errors import ConfigError

YEAR = 365 * 86400.0
"""What the lists that browsers bring along ask for (hstspreload.org)."""


def check_http(route: Route, place: Place) -> None:
    """`place`: of the route. Nobody sees requests in mail, or inside TLS that is passed through."""
    if carries_http(route):
        return
    mail = isinstance(route.action, MailHandover)
    why = "a mail route speaks SMTP" if mail else "nobody sees a request inside TLS that is passed through"
    for way in feature_keys(route):
        place.at(*way).tell(f"{why}: leave it out")


def _static(static: Static, place: Place) -> Static:
    if place.says("root") and not place.findings.touch(place.at("root").path):
        if not static.root.exists():
            place.at("root").tell(f"there is no {static.root}")
        elif not static.root.is_dir():
            place.at("root").tell(f"{static.root} is not a directory")
    return static


def _basic(auth: BasicAuth, place: Place) -> BasicAuth:
    try:
        users = read_users(auth.users_file)
    except ConfigError as error:
        place.at("users_file").tell_of_file(error.problems)
    else:
        if not users:
            place.at("users_file").warn(f"{auth.users_file} has no users: nobody can log in")
    return auth


def _changes(changes: RequestHeaders | ResponseHeaders, place: Place) -> RequestHeaders | ResponseHeaders:
    if not (changes.set_ or changes.add or changes.remove):
        place.tell("changes nothing: say set, add or remove")
    given = {name.lower() for name in changes.set_}
    for at, name in enumerate(changes.remove):
        if name.lower() in given:
            place.at("remove", at).tell(f"{name} is set too, which replaces it: leave it out here")
    return changes


def _headers(headers: Headers, place: Place) -> Headers:
    if headers.request is None and headers.response is None:
        place.tell("changes nothing: say request or response")
    return headers


def _rewrite(rewrite: PathRewrite, place: Place) -> PathRewrite:
    if rewrite.strip_prefix is None and rewrite.add_prefix is None:
        place.tell("changes nothing: say strip_prefix or add_prefix")
    return rewrite


def _hsts(hsts: Hsts, place: Place) -> Hsts:
    if hsts.preload and not (hsts.include_subdomains and hsts.max_age >= YEAR):
        place.at("preload").tell("the lists of browsers ask for include_subdomains: true and max_age: 365d or more")
    return hsts


HTTP: Mapping[type, Callable[[Any, Place], Any]] = {
    BasicAuth: _basic,
    Headers: _headers,
    Hsts: _hsts,
    PathRewrite: _rewrite,
    RequestHeaders: _changes,
    ResponseHeaders: _changes,
    Static: _static,
}
"""What must hold within a value of a class, whatever stands around it."""

"""What must hold within the keys of a route that only HTTP has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from dcrouter.config.actions import Handler, MailHandover, Static
from dcrouter.config.effective import carries_http
from dcrouter.config.htpasswd import read_users
from dcrouter.config.http import Headers, Hsts, PathRewrite, RequestHeaders, ResponseHeaders
from dcrouter.config.httpkeys import feature_keys
from dcrouter.config.named import read_named
from dcrouter.config.place import Place
from dcrouter.config.publickey import LARGEST, PublicKey, fits, public_key_of
from dcrouter.config.routes import Route
from dcrouter.config.security import BasicAuth, ForwardAuth, Jwt, RouteSecurity
from dcrouter.config.urls import split_url
from dcrouter.errors import ConfigError

YEAR = 365 * 86400.0
"""What the lists that browsers bring along ask for (hstspreload.org)."""


def check_http(route: Route, place: Place) -> None:
    """`place`: of the route."""
    if carries_http(route):
        return
    why = sees_no_request(route)
    for way in feature_keys(route):
        place.at(*way).tell(f"{why}: leave it out")


def sees_no_request(route: Route) -> str:
    """Why, of a route on which nobody does."""
    if isinstance(route.action, MailHandover):
        return "a mail route speaks SMTP"
    if isinstance(route.action, Handler):
        return "a handler takes the connection, and nobody sees its requests"
    return "nobody sees a request inside TLS that is passed through"


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


def _jwt(auth: Jwt, place: Place) -> Jwt:
    given = [word for word in ("secret", "public_key", "jwks_url") if place.says(word)]
    if len(given) != 1:
        place.tell("needs one of 'secret', 'public_key' and 'jwks_url'" + (", not more" if given else ""))
        return auth
    key = _public_key(auth, place)
    for at, algorithm in enumerate(auth.algorithms):
        where = place.at("algorithms", at)
        if algorithm.startswith("HS") != (auth.secret is not None):
            where.tell(f"{algorithm} is checked with {'a secret' if algorithm.startswith('HS') else 'a public key'}")
        elif key is not None and not fits(algorithm, key):
            where.tell(f"{algorithm} is not what the key in {auth.public_key} is for")
        elif auth.secret == "":
            place.at("secret").tell("is empty: anybody could make tokens")
            break
        elif auth.secret is not None and len(auth.secret.encode()) < int(algorithm[2:]) // 8:
            place.at("secret").warn(f"is shorter than the {int(algorithm[2:]) // 8} octets of {algorithm}")
    if auth.jwks_url is not None:
        warn_in_clear(auth.jwks_url, place.at("jwks_url"))
    return auth


def warn_in_clear(url: str, place: Place) -> None:
    """Of a URL where an issuer of tokens is asked."""
    host = split_url(url).host
    if not url.startswith("https://") and host not in ("localhost", "::1") and not host.startswith("127."):
        place.warn("without https, whoever is in between can have any token taken")


def _public_key(auth: Jwt, place: Place) -> PublicKey | None:
    if auth.public_key is None:
        return None
    data = read_named(auth.public_key, LARGEST)
    try:
        if isinstance(data, str):
            raise ConfigError([data])
        return public_key_of(data, str(auth.public_key))
    except ConfigError as error:
        place.at("public_key").tell(str(error))
        return None


def _forward_auth(auth: ForwardAuth, place: Place) -> ForwardAuth:
    place.at("timeout").must_last(auth.timeout, "nobody answers in no time")
    for at, name in enumerate(auth.copy_headers):
        if name.lower() == "host":
            place.at("copy_headers", at).tell("Host is the client's: it is not copied")
    return auth


def _security(security: RouteSecurity, place: Place) -> RouteSecurity:
    if security.basic_auth is not None and security.jwt is not None:
        place.at("jwt").tell("a request has one Authorization, which basic_auth asks for: keep one of them")
    return security


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
    ForwardAuth: _forward_auth,
    Jwt: _jwt,
    RouteSecurity: _security,
    Headers: _headers,
    Hsts: _hsts,
    PathRewrite: _rewrite,
    RequestHeaders: _changes,
    ResponseHeaders: _changes,
    Static: _static,
}
"""What must hold within a value of a class, whatever stands around it."""

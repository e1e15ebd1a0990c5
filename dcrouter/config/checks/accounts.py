"""Who may log in: names that are told twice, the file of more accounts, and ports on which nobody could send."""

from __future__ import annotations

from dcrouter.config.accounts import Auth, User
from dcrouter.config.lists import check_twice, load_users
from dcrouter.config.mail import Email
from dcrouter.config.methods import PASSWORDS, TOKENS
from dcrouter.config.place import Place
from dcrouter.config.read import Reader
from dcrouter.config.units import shown
from dcrouter.errors import ConfigError
from dcrouter.wire.sasl import prepare_account


def check_accounts(email: Email, root: Place, reader: Reader) -> None:
    """`root`: the document."""
    if root.findings.touch(("email", "auth")):
        return
    auth = root.at("email", "auth")
    check_twice(email.auth.users, auth.at("users"))
    users = (*email.auth.users, *_more(email, auth.at("users_file")))
    if root.findings.problems:
        return
    _check_methods(email.auth, users, auth)
    if not (users or email.auth.ldap or email.auth.oauth2 or email.trusted):
        _warn_of_nobody(email, root.at("email"), reader)


def _check_methods(auth: Auth, users: tuple[User, ...], place: Place) -> None:
    """Each must have a source of users that can check it; it is announced where all that could be asked can."""
    table = bool(users or auth.users_file)
    without = next((user.name for user in users if user.scram is None), None)
    for at, method in enumerate(auth.methods or ()):
        where = place.at("methods", at)
        if method in TOKENS:
            if auth.oauth2 is None:
                where.tell(f"nobody can check {method}: it needs oauth2")
        elif method in PASSWORDS:
            if not table and auth.ldap is None:
                where.tell(f"nobody can check {method}: it needs users, users_file or ldap")
        elif not table or (users and all(user.scram is None for user in users)):
            where.tell(f"nobody can check {method}: it needs users with scram, as `dcrouter passwd` makes them")
        elif auth.ldap is not None:
            where.warn(f"{method} is not announced: ldap cannot check it, and clients would choose it")
        elif without is not None:
            where.warn(f"{method} is not announced: {shown(without)} has no scram, and clients would choose it")


def _more(email: Email, place: Place) -> tuple[User, ...]:
    """The accounts of users_file."""
    if email.auth.users_file is None:
        return ()
    try:
        users = load_users(email.auth.users_file)
    except ConfigError as error:
        place.tell_of_file(error.problems)
        return ()
    known = {prepare_account(user.name) for user in email.auth.users}
    for user in users:
        if prepare_account(user.name) in known:
            place.tell(f"{shown(user.name)} is also in `users`")
    return users


def _warn_of_nobody(email: Email, place: Place, reader: Reader) -> None:
    """Only where the operator speaks of such ports or of AUTH: else they are the defaults, and nobody sends there."""
    for port in email.ports:
        if port.kind in email.auth.required and (place.says("ports") or place.says("auth")):
            where = reader.places[id(port)] if id(port) in reader.places else place.at("auth")
            where.warn(
                f"nobody can send through port {port.port}: mail without AUTH is refused on {port.kind} ports "
                "(email.auth.required), and there are no accounts"
            )
            if where.step == "auth":
                return

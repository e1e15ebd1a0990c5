"""Who may log in: names that are told twice, the file of more accounts, and ports on which nobody could send."""

from __future__ import annotations

from dcrouter.config.accounts import User
from dcrouter.config.lists import check_twice, load_users
from dcrouter.config.mail import Email
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
    if not users and not email.trusted and not root.findings.problems:
        _warn_of_nobody(email, root.at("email"), reader)


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

"""What the operator wrote about who may log in to send mail."""

from __future__ import annotations

from typing import Annotated, Literal

from attrs import field, frozen

from dcrouter.config.actions import MailKind
from dcrouter.config.forms import Duration, PasswordHash, ReadPath, counted, key
from dcrouter.config.lines import AccountName
from dcrouter.config.patterns import Recipient

AuthMethod = Literal["PLAIN", "LOGIN"]


@frozen(kw_only=True)
class User:
    """One account."""

    name: AccountName = field(metadata=key("What the client logs in as; case makes no difference."))
    password_hash: PasswordHash = field(metadata=key("argon2id, as `dcrouter passwd` prints it."))
    may_send_as: tuple[Recipient, ...] | None = field(
        default=None,
        metadata=key(
            "Addresses it may use as sender, in the envelope and in From.",
            nonempty="it could send nothing",
            default="its own name, where that is an address",
        ),
    )


@frozen(kw_only=True)
class AuthFailures:
    """Wrong passwords: addresses are banned, accounts are slowed and never locked."""

    max: Annotated[int, counted(1, 100_000)] = field(default=10, metadata=key("Failures of one address ..."))
    within: Duration = field(default=600.0, metadata=key("... in this time ..."))
    ban: Duration = field(default=3600.0, metadata=key("... ban it for this long."))


@frozen(kw_only=True)
class Auth:
    """Who may log in, how, and where they must."""

    required: tuple[MailKind, ...] = field(
        default=("submission", "smtps"),
        metadata=key("Kinds of ports on which mail without AUTH is refused.", scalar=True),
    )
    methods: tuple[AuthMethod, ...] = field(
        default=("PLAIN", "LOGIN"),
        metadata=key("How a client may log in; never in clear.", nonempty="nobody could log in"),
    )
    users: tuple[User, ...] = field(default=(), metadata=key("Accounts."))
    users_file: ReadPath | None = field(
        default=None, metadata=key("More accounts: a YAML list like `users`; read again when it changes.")
    )
    failures: AuthFailures = field(factory=AuthFailures, metadata=key("What wrong passwords lead to."))

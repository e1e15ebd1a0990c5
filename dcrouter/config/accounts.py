"""What the operator wrote about who may log in to send mail."""

from __future__ import annotations

from typing import Annotated, Literal

from attrs import field, frozen

from dcrouter.config.actions import MailKind
from dcrouter.config.directory import Ldap, OAuth2
from dcrouter.config.forms import Duration, PasswordHash, ReadPath, ScramVerifier, counted, key
from dcrouter.config.lines import AccountName
from dcrouter.config.patterns import Recipient

AuthMethod = Literal["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "PLAIN", "LOGIN", "OAUTHBEARER", "XOAUTH2"]


@frozen(kw_only=True)
class User:
    """One account."""

    name: AccountName = field(metadata=key("What the client logs in as; case makes no difference."))
    password_hash: PasswordHash = field(repr=False, metadata=key("argon2id, as `dcrouter passwd` prints it."))
    scram: ScramVerifier | None = field(
        default=None,
        repr=False,
        metadata=key(
            "What SCRAM-SHA-256 needs, as `dcrouter passwd` prints it with a name.", default="it has no SCRAM"
        ),
    )
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
    """Wrong passwords, proofs and tokens: addresses are banned, accounts are slowed and never locked."""

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
    methods: tuple[AuthMethod, ...] | None = field(
        default=None,
        metadata=key(
            "How a client may log in, in the order in which it is told; never in clear. SCRAM-SHA-256 stands for "
            "SCRAM-SHA-256-PLUS too.",
            nonempty="nobody could log in",
            default="those that every source of users can check",
        ),
    )
    users: tuple[User, ...] = field(default=(), metadata=key("Accounts."))
    users_file: ReadPath | None = field(
        default=None, metadata=key("More accounts: a YAML list like `users`; read again when it changes.")
    )
    ldap: Ldap | None = field(
        default=None, metadata=key("A directory that checks passwords, too.", default="no directory")
    )
    oauth2: OAuth2 | None = field(default=None, metadata=key("Whose tokens are taken.", default="nobody's"))
    failures: AuthFailures = field(factory=AuthFailures, metadata=key("What wrong passwords lead to."))

"""Which mechanisms of SASL are announced: those that every source of users can check that could be asked.

Passwords are what `users`, `users_file` and `ldap` know; a client that has one takes the best mechanism that is
announced, so all of them must be able to check it. Tokens are what `oauth2` knows: only a client with one uses them.
"""

from __future__ import annotations

from dcrouter.config.accounts import Auth
from dcrouter.wire.bearer import OAUTHBEARER, XOAUTH2
from dcrouter.wire.scram import PLUS, SCRAM

PASSWORDS = ("PLAIN", "LOGIN")
PROOFS = (PLUS, SCRAM)
TOKENS = (OAUTHBEARER, XOAUTH2)
ALL = (*PROOFS, *PASSWORDS, *TOKENS)


def announced(auth: Auth, *, accounts: int, scram: bool) -> tuple[str, ...]:
    """In the order in which they are told. `accounts`: how many `users` and `users_file` have; `scram`: whether every
    one of them has a verifier.
    """
    table, directory = accounts > 0, auth.ldap is not None
    able = {
        **dict.fromkeys(PROOFS, table and scram and not directory),
        **dict.fromkeys(PASSWORDS, table or directory),
        **dict.fromkeys(TOKENS, auth.oauth2 is not None),
    }
    return tuple(method for method in wanted(auth) if able[method])


def wanted(auth: Auth) -> tuple[str, ...]:
    """Those that the operator wants, if there is a source for them: SCRAM-SHA-256-PLUS comes before SCRAM-SHA-256."""
    if auth.methods is None:
        return ALL
    found: list[str] = []
    for method in auth.methods:
        found += [PLUS, method] if method == SCRAM and PLUS not in auth.methods else [method]
    return tuple(dict.fromkeys(found))

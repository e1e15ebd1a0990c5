"""What clients claim, as credentials of twisted.cred, and how the checking of them can end.

One interface for each way of proving who one is: `checkers` has a checker for each, `Portal` finds it by them.
"""

from __future__ import annotations

from attrs import frozen
from twisted.cred.credentials import ICredentials
from twisted.cred.error import LoginFailed, UnauthorizedLogin
from zope.interface import Attribute, Interface, implementer

from dcrouter.wire.bearer import Token
from dcrouter.wire.sasl import Credentials
from dcrouter.wire.scram import Proof


class IClaim(ICredentials):
    """Of any kind."""

    account = Attribute("Whom the client says that it is; '' where only its token tells.")


class IPasswordClaim(IClaim):
    """A password (PLAIN, LOGIN)."""


class IProofClaim(IClaim):
    """A proof of knowing one (SCRAM)."""


class ITokenClaim(IClaim):
    """A token of an issuer (OAUTHBEARER, XOAUTH2)."""


class IAccount(Interface):
    """Who somebody is that has logged in: what a mail portal gives."""

    name = Attribute("The name of the account.")

    def may_send_as(address: str) -> bool:
        """Whether it may use that sender."""


class Wrong(UnauthorizedLogin):
    """It is not true. The text says why, for the log."""

    def __init__(self, why: str = "wrong password") -> None:
        super().__init__(why)


class Unknown(Wrong):
    """Nobody has that name: it may be a password, typed in the wrong place."""

    def __init__(self, why: str = "no such account") -> None:
        super().__init__(why)


class Unavailable(LoginFailed):
    """Nobody can tell now: neither right nor wrong. The text says why, for the log."""


@implementer(IPasswordClaim)
@frozen(kw_only=True)
class PasswordClaim:
    """`owner`: the client's address, as it is counted; `preferred`: it has logged in to the account before."""

    credentials: Credentials
    owner: str
    preferred: bool

    @property
    def account(self) -> str:
        return self.credentials.account


@implementer(IProofClaim)
@frozen(kw_only=True)
class ProofClaim:
    proof: Proof

    @property
    def account(self) -> str:
        return self.proof.account


@implementer(ITokenClaim)
@frozen(kw_only=True)
class TokenClaim:
    """The name that comes with a token is compared with the one in it."""

    token: Token

    @property
    def account(self) -> str:
        return self.token.account

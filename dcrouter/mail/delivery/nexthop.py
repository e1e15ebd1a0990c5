"""Where mail can go next, as a value: two rules that mean the same server in the same way share its connections."""

from __future__ import annotations

from pathlib import Path

from attrs import frozen

from dcrouter.config.rules import Deliver, MailForward, OutboundTls, SmartHostAuth
from dcrouter.config.targets import SimpleTarget
from dcrouter.mail.delivery.egress.way import DIRECT, Way
from dcrouter.tls.dane import Tlsa
from dcrouter.wire.hostport import hostport

SMTP_PORT = 25
SMTPS_PORT = 465
"""TLS from the first octet on, RFC 8314 3.3: so it is spoken there, unless `tls: none`."""


@frozen(kw_only=True, cache_hash=True)
class Dane:
    """What DNS says of an exchanger's certificate (RFC 7672): usable `records`, none where TLS is all that can be had;
    `names`: those that it may be for.
    """

    records: tuple[Tlsa, ...]
    names: tuple[str, ...]


@frozen(kw_only=True, cache_hash=True)
class Security:
    """What a session must have. `dane` counts before all else. `tested`: its certificate is looked at as if TLS were
    required, and only told of (MTA-STS, `mode: testing`).
    """

    tls: OutboundTls = "opportunistic"
    dane: Dane | None = None
    tested: bool = False


WELCOME = Security()
"""TLS, if it can be had."""


@frozen(kw_only=True, cache_hash=True)
class NextHop:
    """A server at `host`:`port` or behind the socket `unix`. `host`, name or address, is also what its certificate must
    be for where `tls` is required. `ca`: the file of the authorities to trust, None: the system's. `dane`, `tested`: as
    of Security. `way`: how it is connected to; what goes another way shares none of its connections.
    """

    host: str | None = None
    port: int = SMTP_PORT
    unix: Path | None = None
    lmtp: bool = False
    tls: OutboundTls = "opportunistic"
    ca: str | None = None
    auth: SmartHostAuth | None = None
    dane: Dane | None = None
    tested: bool = False
    way: Way = DIRECT

    @property
    def target(self) -> str:
        """For logs, outcomes and the queue: `host:port`, or the socket's path."""
        if self.unix is not None:
            return str(self.unix)
        return hostport(self.host or "", self.port)

    @property
    def implicit_tls(self) -> bool:
        return self.port == SMTPS_PORT and self.unix is None and self.tls != "none"


def hops_of(action: MailForward | Deliver) -> tuple[NextHop, ...]:
    """Those that an action names, in its order; none for a Maildir."""
    if isinstance(action, MailForward):
        return tuple(_hop(action, target) for target in action.targets)
    if action.lmtp is None:
        return ()
    if isinstance(action.lmtp, Path):
        return (NextHop(unix=action.lmtp, lmtp=True, tls="none"),)
    assert action.lmtp.port is not None
    return (NextHop(host=action.lmtp.host, port=action.lmtp.port, lmtp=True, tls="none"),)


def _hop(action: MailForward, target: SimpleTarget) -> NextHop:
    ca = str(action.ca) if action.ca is not None else None
    if target.unix is not None:
        return NextHop(unix=target.unix, tls=action.tls, ca=ca, auth=action.auth)
    return NextHop(host=target.host, port=target.port or SMTP_PORT, tls=action.tls, ca=ca, auth=action.auth)

"""What the operator wrote about checking who mail from strangers is from."""

from __future__ import annotations

from typing import Literal

from attrs import field, frozen

from dcrouter.config.forms import key


@frozen(kw_only=True)
class AuthenticationResults:
    """Checks of mail that strangers bring to ports of kind smtp; what they find is told in Authentication-Results."""

    spf: bool = field(
        default=True,
        metadata=key(
            "SPF of MAIL FROM and of HELO (RFC 7208). Mail from a domain that takes none (null MX, RFC 7505) gets "
            "550 5.7.27."
        ),
    )
    dkim: bool = field(default=True, metadata=key("DKIM signatures, RSA and Ed25519 (RFC 6376, 8463)."))
    dmarc: Literal["ignore", "monitor", "enforce"] = field(
        default="monitor",
        metadata=key("DMARC (RFC 9989) by what SPF and DKIM found; `enforce`: what a policy rejects gets 550 5.7.26."),
    )
    arc: bool = field(default=True, metadata=key("ARC chains (RFC 8617)."))
    iprev: bool = field(default=True, metadata=key("Whether the name of the client's address leads back to it."))

"""REQUIRETLS on its way out: who may have such a message, and in what session. RFC 8689 4.2.1.

An exchanger may, where DNSSEC or the domain's MTA-STS policy vouches for its being one, and its certificate, or its
TLSA record, for its being it; the server that a rule names may with a certificate for that name. All of them must offer
REQUIRETLS themselves.
"""

from __future__ import annotations

from attrs import evolve

from dcrouter.mail.delivery.exchangers import Exchanger
from dcrouter.mail.delivery.nexthop import NextHop
from dcrouter.mail.message import Message

NOT_AUTHENTIC = "550 5.7.30 REQUIRETLS: neither DNSSEC nor a policy vouches for the exchangers of the domain"


def is_strict(message: Message) -> bool:
    return message.envelope.terms.requiretls and message.envelope.sender != ""


def is_authentic(exchanger: Exchanger) -> bool:
    """Whether somebody vouches for its being the domain's."""
    security = exchanger.security
    return exchanger.secure or security.tls == "required" or (security.dane is not None and bool(security.dane.records))


def verified(hop: NextHop) -> NextHop:
    """The same in a session whose peer has proved who it is."""
    if hop.lmtp or (hop.dane is not None and hop.dane.records):
        return hop
    return evolve(hop, tls="required", dane=None, tested=False)

"""What a message carries to its next hop: as a transaction, for some of its recipients."""

from __future__ import annotations

from collections.abc import Sequence

from dcrouter.mail.envelope import PLAIN
from dcrouter.mail.message import Message
from dcrouter.wire.smtp.parameters import NO_REPORT, NO_WISHES, Report, Wishes
from dcrouter.wire.smtp.transaction import Transaction


def transaction_of(message: Message, addresses: Sequence[str]) -> Transaction:
    """`addresses`: of recipients of the message."""
    envelope, terms = message.envelope, message.envelope.terms
    wishes = NO_WISHES
    if terms is not PLAIN:
        wishes = Wishes(ret=terms.ret, envid=terms.envid, requiretls=terms.requiretls, priority=terms.priority)
    reports: list[Report] = []
    if any(one.notify or one.orcpt for one in envelope.recipients):
        said = {one.address: Report(one.notify, one.orcpt) for one in envelope.recipients}
        reports = [said.get(address, NO_REPORT) for address in addresses]
    return Transaction(
        envelope.sender,
        addresses,
        message.size,
        message.eightbit,
        binary=message.binary,
        smtputf8=terms.smtputf8,
        wishes=wishes,
        reports=reports,
    )


def for_some(transaction: Transaction, numbers: Sequence[int]) -> Transaction:
    """The same for these of its recipients, by their places."""
    return transaction._replace(
        recipients=[transaction.recipients[number] for number in numbers],
        reports=[transaction.reports[number] for number in numbers] if transaction.reports else (),
    )

"""Credentials on their way from the parent into a child: what is new in pieces, then the order in which all stand.

    credentials   {credentials}    some that the child does not have yet
    shelve        {order}          use these from now on, by their ids, and no others

`config` and `incoming` have an `order` too, of what came before them. Among 10 000 certificates a renewal is one piece
and a list of ids; the child lays them out in slices, beside its traffic.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger

from dcrouter.net.slices import in_slices
from dcrouter.tls.chooser import Chooser, Shelf
from dcrouter.tls.credential import Credential

PIECE = 50
"""Credentials in one message: about 250 KB, a millisecond to unpack."""

Plain = dict[str, Any]


def order_of(credentials: Iterable[Credential]) -> list[str]:
    """Their ids."""
    return [one.id for one in credentials]


def pieces(credentials: Iterable[Credential], known: Iterable[Credential] = ()) -> Iterator[Plain]:
    """The fields of the `credentials` messages that a child needs who has `known`."""
    there = set(order_of(known))
    new = [one for one in credentials if one.id not in there]
    for start in range(0, len(new), PIECE):
        yield {"credentials": [one.to_plain() for one in new[start : start + PIECE]]}


class Credentials:
    """The child's side. Whatever it was told of last is known, until another order leaves it out."""

    log = Logger()

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._arrived: dict[str, Credential] = {}
        self._known: dict[str, Credential] = {}
        self._laying: Deferred[Any] | None = None

    def arrive(self, plain: Sequence[Plain]) -> None:
        """Some of what the next order names."""
        for one in plain:
            credential = Credential.from_plain(one)
            self._arrived[credential.id] = credential

    def ordered(self, order: Sequence[str]) -> list[Credential]:
        """All of an order; KeyError where one never arrived."""
        return [self._arrived.get(one) or self._known[one] for one in order]

    def forget_arrived(self) -> None:
        """No order will name them."""
        self._arrived = {}

    def settle(self, credentials: Sequence[Credential]) -> None:
        """These are in use, and the next order may name any of them."""
        self._arrived = {}
        self._known = {one.id: one for one in credentials}
        if self._laying is not None:
            self._laying.cancel()
            self._laying = None

    def shelve(self, order: Sequence[str], chooser: Chooser) -> None:
        """Have the chooser use these as soon as they are laid out."""
        credentials = self.ordered(order)
        self.settle(credentials)

        def use(shelf: Shelf) -> None:
            self._laying = None
            chooser.use(shelf)

        self._laying = in_slices(self._reactor, chooser.shelf(credentials))
        self._laying.addCallback(use).addErrback(self._failed)

    def _failed(self, failure: Any) -> None:
        if failure.check(CancelledError) is None:
            self.log.failure("new certificates cannot be used", failure)

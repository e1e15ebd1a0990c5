"""A message for some recipients on its way through the next hops that may take it, in order, and what becomes of each.

1. The next one when a hop cannot be reached, refuses the session, breaks off before it has the whole message, or says
   421, but to a further message on a connection, which it gets by another one then. Its other replies are its answers,
   and are not taken elsewhere; nor are recipients that it had refused for good.
2. Recipients that are too many for one transaction (452 4.5.3) go in the next one, on the same connection; after
   FOLLOWING seconds they wait, like others whom a hop wants to have later.
3. Where a hop does not take the message as it is, it gets another form, and goes there again (`adaptation`).
4. With no hop left the message waits; it fails where each of them says that it takes no mail at all (RFC 7504), or
   cannot protect what has to be (RFC 8689 4.2.1).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from dcrouter.errors import StoreError
from dcrouter.mail.delivery.adaptation import Adapted, adapted
from dcrouter.mail.delivery.body import Content
from dcrouter.mail.delivery.carried import for_some, transaction_of
from dcrouter.mail.delivery.course import Course
from dcrouter.mail.delivery.destination import Destination
from dcrouter.mail.delivery.outcome import Deferred as Later
from dcrouter.mail.delivery.outcome import Failed, Outcome, Peer, Postponed, from_reply
from dcrouter.mail.delivery.requiretls import is_strict
from dcrouter.mail.delivery.sending import Hear, Trouble
from dcrouter.mail.message import Message
from dcrouter.mail.queue.parts import part_for
from dcrouter.wire.smtp.opening import NO_TLS
from dcrouter.wire.smtp.reply import Reply
from dcrouter.wire.smtp.transaction import ADAPTABLE, NO_REQUIRETLS, OURS, TOO_MANY

MAX_RECIPIENTS = 100
"""Of one message in one transaction: what every server must take (RFC 5321 4.5.3.1.8)."""

FOLLOWING = 3600.0
"""Seconds: a hop that takes one recipient at a time, slowly, holds the others of the message no longer."""

_TOO_MANY = ((452, None), (452, "4.5.3"), (552, None), (552, "5.5.3"))
"""552 is what old servers say for it (RFC 5321 4.5.3.1.10). Who meant something else says it again in the next one.
Without an enhanced code, which LMTP servers must give (RFC 2033 4.1), these mean a full mailbox there.
"""


class Forwarding:
    """`outcomes` fires once, with one for each of `numbers`: recipients, by their place in the message. A `Course` is
    told what destinations say, and has a say in what it means. `clock`: makes pauses in long work. `hear` is told what
    has come of those who are through while others are not.
    """

    _log = Logger()

    def __init__(
        self,
        message: Message,
        content: Content,
        numbers: Sequence[int],
        destinations: Iterable[Destination],
        clock: IReactorTime,
        hear: Hear,
    ) -> None:
        self.outcomes: Deferred[list[Outcome]] = Deferred()
        self.content = content
        recipients = message.envelope.recipients
        self.transaction = transaction_of(message, [recipients[number].address for number in numbers])
        self._message = message
        self._numbers = numbers
        self._hear = hear
        self._clock = clock
        self._until = clock.seconds() + FOLLOWING
        self._course = destinations if isinstance(destinations, Course) else None
        self._destinations = iter(destinations)
        self._destination: Destination | None = None
        self._troubles: list[Trouble] = []
        self._results: list[Outcome | None] | None = None  # None: all of them are in the transaction under way
        self._under_way: Sequence[int] = range(len(numbers))
        self._parted = False

    def start(self) -> Deferred[list[Outcome]]:
        self._next()
        return self.outcomes

    def _next(self) -> None:
        self._parted = False
        self._destination = next(self._destinations, None)
        if self._destination is not None:
            self._destination.send(self)
            return
        outcome = self._unreached()
        if self._course is not None:
            outcome = self._course.unreached(outcome)
        self._end([outcome] * len(self.transaction.recipients))

    # ------------------------------------------------------------------ what connections tell

    def finished(self, replies: tuple[Reply, ...], peer: Peer) -> None:
        if replies[0].code >= 500 and self._ruled_out(replies[0], peer):
            return
        if len(replies) == 1:
            if replies[0].code == 421:
                self.unreachable(Trouble(peer.target, replies[0].text, "4.4.2", said=replies[0].text))
            else:
                self._end([self._outcome(replies[0], peer)])
            return
        if all(reply.code == 421 for reply in replies):
            self.unreachable(Trouble(peer.target, replies[0].text, "4.4.2", said=replies[0].text))
            return
        outcomes = [self._outcome(reply, peer) for reply in replies]
        later = [at for at, reply in enumerate(replies) if self._is_too_many(reply)]
        taken = replies[-1] is TOO_MANY or any(reply.code < 300 for reply in replies)
        if later and taken and self._clock.seconds() < self._until:
            self._again(outcomes, later)
        else:
            self._end(outcomes)

    def _is_too_many(self, reply: Reply) -> bool:
        lmtp = self._destination is not None and self._destination.hop.lmtp
        return (reply.code, reply.enhanced) in _TOO_MANY and not (lmtp and reply.enhanced is None)

    def _ruled_out(self, refusal: Reply, peer: Peer) -> bool:
        """Whether that is a word of ours, and something can be done about it."""
        if refusal is NO_REQUIRETLS:
            self.unreachable(Trouble(peer.target, refusal.lines[0], NO_TLS))
        elif any(refusal is one for one in ADAPTABLE):
            adapting = Deferred.fromCoroutine(adapted(self.transaction, self.content, refusal, self._clock))
            within = adapting.called  # then this connection is about to take the next one
            adapting.addCallback(self._adapted, peer, within).addErrback(self._unadapted, peer)
        else:
            return False
        return True

    def answered(self, replies: tuple[Reply | None, ...], peer: Peer) -> None:
        """Who has it does not wait for the others."""
        through = {at: reply for at, reply in enumerate(replies) if reply is not None and reply.code < 300}
        self._hear(self._part(through), [self._outcome(reply, peer) for reply in through.values()])

    def unanswered(self, replies: tuple[Reply | None, ...], reason: str, peer: Peer) -> None:
        """Nobody knows whether it has arrived: asked again later, at the risk of a second copy."""
        unknown: Outcome = Later(f"4.4.2 {peer.target}: {reason}", *peer[:3], through=peer.through)
        unknown = self._judged(unknown)
        known = [self._judged(from_reply(reply, peer)) if reply is not None else unknown for reply in replies]
        self._end(known + [unknown] * (len(self.transaction.recipients) - len(known)))

    def parted(self, reply: str) -> bool:
        """Servers that take so many messages on a connection say it like that. Once, lest it goes round; and not what
        is to trigger something.
        """
        if self._parted or (self._course is not None and self._course.minds(reply)):
            return False
        self._parted = True
        return True

    def refused(self, replies: tuple[Reply | None, ...], peer: Peer) -> None:
        """5xx is final (RFC 5321 4.2.1), whatever becomes of the others."""
        said = {at: reply for at, reply in enumerate(replies) if reply is not None and reply.code >= 500}
        final = {at: reply for at, reply in said.items() if not self._is_too_many(reply)}
        if not final:
            return
        others = [at for at in range(len(self.transaction.recipients)) if at not in final]
        outcomes: list[Outcome] = [Later("", *peer[:3])] * len(self.transaction.recipients)
        for at, reply in final.items():
            outcomes[at] = self._outcome(reply, peer)
        self._keep(outcomes)
        self._under_way = [self._under_way[at] for at in others]
        self.transaction = for_some(self.transaction, others)

    def unreachable(self, trouble: Trouble) -> None:
        message = self._message
        self._log.debug(
            "message {message}: {target}: {reason}",
            message=message.name,
            session=message.envelope.session,
            target=trouble.target,
            reason=trouble.reason,
        )
        self._troubles.append(trouble)
        if self._course is not None and self._destination is not None:
            self._course.heard(trouble, self._destination)
        self._next()

    @property
    def ticket(self) -> int:
        return self._message.id

    def postponed(self, outcome: Postponed) -> None:
        """It is not taken elsewhere: it was not refused, it is only early."""
        self._end([outcome] * len(self.transaction.recipients))

    def _outcome(self, reply: Reply, peer: Peer) -> Outcome:
        """What a server has said triggers something, not what we say for it."""
        outcome = from_reply(reply, peer)
        return outcome if reply.code >= 400 and any(reply is one for one in OURS) else self._judged(outcome)

    def _judged(self, outcome: Outcome) -> Outcome:
        if self._course is None or self._destination is None:
            return outcome
        return self._course.judge(outcome, self._destination)

    # ------------------------------------------------------------------ another form

    def _adapted(self, to: Adapted, peer: Peer, within: bool) -> None:
        refused = Failed("", *peer[:3])
        outcomes: list[Outcome] = [refused] * len(self.transaction.recipients)
        for at, reply in to.refused.items():
            outcomes[at] = from_reply(reply, peer)
        if to.transaction is None:
            self._end(outcomes)
            return
        assert self._destination is not None
        if to.refused:
            self._keep(outcomes)
            self._under_way = [number for at, number in enumerate(self._under_way) if at not in to.refused]
        self.transaction, self.content = to.transaction, to.content
        self._destination.again(self)
        if not within:
            self._destination.token()

    def _unadapted(self, failure: Failure, peer: Peer) -> None:
        if not failure.check(StoreError, OSError):
            self._log.failure("message {message}: not converted", failure, message=self._message.name)
        outcome = Later(f"4.3.0 {failure.getErrorMessage()}", *peer[:3])
        self._end([outcome] * len(self.transaction.recipients))

    # ------------------------------------------------------------------ recipients

    def _again(self, outcomes: list[Outcome], later: list[int]) -> None:
        """Those of `later` once more; some of the others have an end, so there is one."""
        assert self._destination is not None
        self._keep(outcomes)
        through = [at for at in range(len(outcomes)) if at not in later]
        part = self._part(through)
        self._under_way = [self._under_way[at] for at in later]
        self.transaction = for_some(self.transaction, later)
        self._hear(part, [outcomes[at] for at in through])
        self._destination.again(self)

    def _part(self, through: Iterable[int]) -> Message:
        """The message for these of the transaction under way."""
        recipients = self._message.envelope.recipients
        return part_for(self._message, tuple(recipients[self._numbers[self._under_way[at]]] for at in through))

    def _keep(self, outcomes: list[Outcome]) -> None:
        if self._results is None:
            self._results = [None] * len(outcomes)
        for at, outcome in zip(self._under_way, outcomes, strict=True):
            self._results[at] = outcome

    def _end(self, outcomes: list[Outcome]) -> None:
        if self._results is not None:
            self._keep(outcomes)
            outcomes = [outcome for outcome in self._results if outcome is not None]
        self.outcomes.callback(outcomes)

    def _unreached(self) -> Outcome:
        """`target`: the first, which wakes the mail when it is back."""
        troubles = self._troubles
        target = troubles[0].target if troubles else ""
        if troubles and all(trouble.gone for trouble in troubles):
            return Failed(troubles[0].gone, target)
        if troubles and is_strict(self._message) and all(one.status in (NO_TLS, "4.7.5") for one in troubles):
            reasons = "; ".join(f"{one.target}: {one.reason}" for one in troubles)
            return Failed(f"550 5.7.30 REQUIRETLS is not to be had: {reasons}", target)
        status = next((one.status for one in troubles if one.status != "4.4.1"), "4.4.1")
        return Later(f"{status} {'; '.join(f'{one.target}: {one.reason}' for one in troubles)}", target)

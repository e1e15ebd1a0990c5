"""What the queue says of attempts that have ended: counters, a log line and an event for each recipient."""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger

from dcrouter.events import DeliveryDone
from dcrouter.mail.bounces.kinds import kind_of
from dcrouter.mail.delivery.outcome import Held, Outcome, Postponed
from dcrouter.mail.envelope import Recipient
from dcrouter.mail.message import Message

OnEnd = Callable[[Recipient, Outcome, str], None] | None


class Reports:
    """`on_done`, where given, hears of each recipient and attempt; so does `ended`, with the word for what it came to.
    `counters`: since the start; `rules`: rule -> what attempts for its recipients came to -> how many; `kinds`: what
    failures and delays were for (mail/bounces/kinds) -> how many.
    """

    _log = Logger()

    def __init__(self, on_done: Callable[[DeliveryDone], None] | None, ended: OnEnd = None) -> None:
        self.counters = {"accepted": 0, "delivered": 0, "deferred": 0, "failed": 0, "postponed": 0, "notices": 0}
        self.rules: dict[str, dict[str, int]] = {}
        self.kinds: dict[str, int] = {}
        self.on_done = on_done
        self._ended = ended

    def told(self, message: Message, notice: Message) -> None:
        """A notification of what became of `message` is in the queue."""
        self.counters["notices"] += 1
        self._log.info(
            "message {message}: {recipient} is told by message {notice}",
            message=message.name,
            session=message.envelope.session,
            recipient=notice.envelope.recipients[0].address,
            notice=notice.name,
        )

    def report(self, message: Message, outcomes: list[Outcome], words: list[str], now: float) -> None:
        """`words`: what each outcome came to, in order of the recipients."""
        envelope = message.envelope
        for one, outcome, word in zip(envelope.recipients, outcomes, words, strict=True):
            if word in self.counters:
                self.counters[word] += 1
            ends = self.rules.setdefault(one.rule, {})
            ends[word] = ends.get(word, 0) + 1
            if isinstance(outcome, Postponed) and word == "postponed":
                self._postponed(message, one.address, outcome)
                continue
            if self._ended is not None:
                self._ended(one, outcome, word)
            kind = None
            if word in ("failed", "deferred"):
                kind = kind_of(outcome.reply).name
                self.kinds[kind] = self.kinds.get(kind, 0) + 1
            held = isinstance(outcome, Held)
            target = "" if isinstance(outcome, Held) else outcome.target
            # A Maildir's place is for the operator alone: the reply may go to the sender.
            place = " at {target}" if target.startswith("/") and word in ("deferred", "failed") else ""
            self._log.info(
                "message {message} to {recipient}: {outcome} ({reply})" + place,
                message=message.name,
                session=envelope.session,
                recipient=one.address,
                outcome=word,
                reply=outcome.reply,
                target=target,
            )
            if self.on_done is not None:
                self.on_done(
                    DeliveryDone(
                        message=message.name,
                        session=envelope.session,
                        ended=round(now, 3),
                        sender=envelope.sender,
                        recipient=one.address,
                        rule=one.rule,
                        target=target or None,
                        tls=getattr(outcome, "tls", None) or None,
                        through=getattr(outcome, "through", None) or None,
                        outcome=word,
                        kind=kind,
                        reply=outcome.reply,
                        attempts=one.attempts + (not held),
                        seconds=round(now - message.received, 3),
                        size=message.size,
                    )
                )

    def _postponed(self, message: Message, address: str, outcome: Postponed) -> None:
        """No attempt was made, so nobody else hears of it."""
        self._log.debug(
            "message {message} to {recipient} waits {seconds} s for its turn ({reply})",
            message=message.name,
            session=message.envelope.session,
            recipient=address,
            seconds=round(outcome.seconds, 3),
            reply=outcome.reply,
        )

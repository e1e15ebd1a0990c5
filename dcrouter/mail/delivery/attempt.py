"""One attempt at the recipients of a message that share a rule: where the rule sends them, and what became of each.

1. The rule is looked up now, not when the message came: fix a target, and its mail flows. A rule that is gone holds it.
2. `forward`: the rule's targets in the order of its balance, those that were just found down last; the next one when a
   target cannot be reached or breaks off before its final reply. At most `retries` others.
3. `deliver`: a file per recipient, written in a few threads.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool

from dcrouter.config.routes import Target
from dcrouter.config.rules import Deliver, MailForward, Reject
from dcrouter.mail.delivery import maildir
from dcrouter.mail.delivery.client import Content, NextPiece
from dcrouter.mail.delivery.destination import Destinations, Patience
from dcrouter.mail.delivery.outcome import Deferred as Later
from dcrouter.mail.delivery.outcome import Delivered, Failed, Held, Outcome, from_reply
from dcrouter.mail.message import Message, spool_path
from dcrouter.mail.pipeline.rules import Rules
from dcrouter.mail.queue.stores.sqlite import SqliteStore
from dcrouter.wire.smtp.client import Transaction
from dcrouter.wire.smtp.reply import Reply

MAX_RECIPIENTS = 100
"""Of one message in one transaction: what every server must take (RFC 5321 4.5.3.1.8)."""

THREADS = 4
"""That write and read files: fsync is what they wait for, and four of them wait for one disk well."""

_PIECE = 256 * 1024


class Attempts:
    """Tries messages for the queue. `start` and `close` frame its threads."""

    def __init__(
        self, rules: Rules, store: SqliteStore, state_dir: Path, hostname: str, reactor: Any, patience: Patience
    ) -> None:
        self._rules = rules
        self._store = store
        self._state_dir = state_dir
        self._hostname = hostname
        self._reactor = reactor
        self._destinations = Destinations(hostname, reactor, patience)
        self._files = ThreadPool(0, THREADS, "mail-files")
        self._turns: dict[str, int] = {}

    def start(self) -> None:
        self._files.start()

    def break_off(self) -> None:
        """Ends every connection: what was on its way ends as deferred."""
        self._destinations.close()

    def close(self) -> None:
        """Ends the threads, after what they are at; blocks for as long as that takes."""
        if self._files.started:
            self._files.stop()

    def attempt(self, message: Message) -> Deferred[list[Outcome]]:
        """One outcome for each recipient, in order; they share their rule. Never fails."""
        recipients = message.envelope.recipients
        name = recipients[0].rule
        rule = self._rules.named(name)
        if rule is None:
            return succeed([Held(f"no rule named {name}")] * len(recipients))
        action = rule.action
        if isinstance(action, MailForward):
            return self._forward(message, name, action)
        if isinstance(action, Deliver) and action.maildir is not None:
            return self._deliver(message, action.maildir)
        if isinstance(action, Reject):
            return succeed([_refused(action)] * len(recipients))
        return succeed([Held(f"rule {name} sends where nothing can be sent yet")] * len(recipients))

    # ------------------------------------------------------------------ forward

    def _forward(self, message: Message, rule: str, action: MailForward) -> Deferred[list[Outcome]]:
        addresses = [one.address for one in message.envelope.recipients]
        content = StoredContent(message, self)
        parts = [
            Forwarding(content, addresses[at : at + MAX_RECIPIENTS], self._order(rule, action), self._destinations)
            for at in range(0, len(addresses), MAX_RECIPIENTS)
        ]
        for part in parts:
            part.next_target()
        if len(parts) == 1:
            return parts[0].outcomes
        together: Deferred[list[list[Outcome]]] = gatherResults([part.outcomes for part in parts])
        return together.addCallback(lambda lists: [outcome for outcomes in lists for outcome in outcomes])

    def _order(self, rule: str, action: MailForward) -> list[Target]:
        """The targets to try, best first."""
        targets = list(action.targets)
        if action.balance == "round-robin":
            turn = self._turns.get(rule, 0) % len(targets)
            self._turns[rule] = turn + 1
            targets = targets[turn:] + targets[:turn]
        if len(targets) > 1:
            targets.sort(key=lambda target: self._destinations.of(target).down)
        return targets[: 1 + action.retries]

    # ------------------------------------------------------------------ deliver

    def _deliver(self, message: Message, template: str) -> Deferred[list[Outcome]]:
        if message.octets is None and not message.spooled:
            count = len(message.envelope.recipients)
            read: Deferred[Any] = self._store.octets(message)
            read.addCallback(lambda octets: self._write(message, octets, template))
            return read.addErrback(lambda failure: [Later(f"4.3.0 {failure.getErrorMessage()}")] * count)
        return self._write(message, message.octets, template)

    def _write(self, message: Message, octets: bytes | None, template: str) -> Deferred[list[Outcome]]:
        source = spool_path(self._store.spool, message.id) if message.spooled else None
        deliveries = [
            maildir.Delivery(
                message=message,
                octets=octets,
                address=one.address,
                number=one.number,
                directory=maildir.maildir_path(template, one.address, self._state_dir),
                hostname=self._hostname,
                source=source,
            )
            for one in message.envelope.recipients
        ]
        return self.in_thread(_write_all, deliveries)

    def in_thread(self, call: Any, *args: Any) -> Deferred[Any]:
        """Runs a call that waits for the disk."""
        return deferToThreadPool(self._reactor, self._files, call, *args)

    def stored(self, message: Message) -> Deferred[bytes]:
        """The octets of a message that is not spooled."""
        return self._store.octets(message)

    def spool_file(self, message: Message) -> Path:
        return spool_path(self._store.spool, message.id)


class StoredContent:
    """The octets of a message for a next hop: from memory, from the store, or from its spool file piece by piece."""

    def __init__(self, message: Message, attempts: Attempts) -> None:
        self.message = message
        self.octets = message.octets
        self._attempts = attempts

    def pieces(self) -> NextPiece:
        at = 0

        def spooled() -> Deferred[bytes]:
            nonlocal at
            start, at = at, at + _PIECE
            return self._attempts.in_thread(_read, self._attempts.spool_file(self.message), start)

        def stored() -> Deferred[bytes]:
            nonlocal at
            start, at = at, at + 1
            return self._attempts.stored(self.message) if start == 0 else succeed(b"")

        return spooled if self.message.spooled else stored


class Forwarding:
    """A message for some recipients, on its way through the targets of a rule. `outcomes` fires once, with one for
    each.
    """

    _log = Logger()

    def __init__(
        self, content: StoredContent, addresses: Sequence[str], targets: Sequence[Target], destinations: Destinations
    ) -> None:
        message = content.message
        self.outcomes: Deferred[list[Outcome]] = Deferred()
        self.content: Content = content
        self._message = message
        self.transaction = Transaction(message.envelope.sender, addresses, message.size, message.eightbit)
        self._targets = iter(targets)
        self._destinations = destinations
        self._reasons: list[str] = []

    def next_target(self) -> None:
        target = next(self._targets, None)
        if target is None:
            reason = "; ".join(self._reasons)
            self.outcomes.callback([Later(f"4.4.1 {reason}")] * len(self.transaction.recipients))
        else:
            self._destinations.of(target).send(self)

    def finished(self, replies: tuple[Reply, ...], target: str) -> None:
        if all(reply.code == 421 for reply in replies):
            self.unreachable(f"{target}: {replies[0].text}")
            return
        self.outcomes.callback([from_reply(reply, target) for reply in replies])

    def unreachable(self, reason: str) -> None:
        message = self._message
        self._log.debug(
            "message {message}: {reason}", message=message.name, session=message.envelope.session, reason=reason
        )
        self._reasons.append(reason)
        self.next_target()


def _refused(action: Reject) -> Outcome:
    return Failed(f"{action.code} {action.message}")


def _write_all(deliveries: list[maildir.Delivery]) -> list[Outcome]:
    outcomes: list[Outcome] = []
    for delivery in deliveries:
        try:
            outcomes.append(Delivered("delivered to Maildir", str(delivery.write().parent.parent)))
        except OSError as error:
            outcomes.append(Later(f"4.3.0 {error.strerror or error}", str(delivery.directory)))
    return outcomes


def _read(path: Path, start: int) -> bytes:
    with path.open("rb", buffering=0) as spooled:
        return os.pread(spooled.fileno(), _PIECE, start)

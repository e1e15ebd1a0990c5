"""LDAP as a client that looks for entries and binds: ldaptor's messages on a connection of ours. RFC 4511.

ldaptor is imported with the first connection, and needed by nobody who names no directory.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from dcrouter.errors import Unreachable
from dcrouter.wire.ldapfilter import Extensible, Filter, Group, Present, Substrings, filled

LARGEST = 64 * 1024
"""Octets of one answer: entries are asked for without their attributes."""
_START_TLS = b"1.3.6.1.4.1.1466.20037"


class Connection(Protocol):
    """One question at a time. Answers fail with Unreachable when the connection has ended, or speaks no LDAP."""

    transport: Any
    _log = Logger()

    def __init__(self) -> None:
        self._buffer = b""
        self._number = 0
        self._awaited: Deferred[Any] | None = None
        self._entries: list[bytes] = []
        self._ended = False
        self._problem = "the connection was closed"
        self._creator: Any = None

    def bind(self, dn: bytes, password: bytes) -> Deferred[int]:
        """The result code of a simple bind."""
        from ldaptor.protocols import pureldap

        return self._ask(pureldap.LDAPBindRequest(dn=dn, auth=password))

    def search(self, base: bytes, wanted: Filter, name: bytes, seconds: float) -> Deferred[tuple[int, list[bytes]]]:
        """Result code and the names of at most two entries below `base` (subtree), for the client of this `name`."""
        from ldaptor.protocols import pureldap

        self._entries = []
        asked = self._ask(
            pureldap.LDAPSearchRequest(
                baseObject=base,
                scope=pureldap.LDAP_SCOPE_wholeSubtree,
                derefAliases=pureldap.LDAP_DEREF_neverDerefAliases,
                sizeLimit=2,
                timeLimit=max(1, round(seconds)),
                filter=_wired(wanted, name),
                attributes=[b"1.1"],
            )
        )
        return asked.addCallback(lambda code: (code, self._entries))

    def ask_for_tls(self) -> Deferred[int]:
        """The result code of StartTLS (4511 4.14); 0: `secure` comes next."""
        from ldaptor.protocols import pureldap

        return self._ask(pureldap.LDAPExtendedRequest(requestName=_START_TLS))

    def secure(self, creator: Any) -> None:
        """TLS begins; what is asked from now on waits for it. Nothing may have been sent before it was asked for."""
        self._creator = creator
        if self._buffer:
            self._break("something was said in clear behind StartTLS")
            return
        self.transport.startTLS(creator)

    def end(self) -> None:
        """Cuts it."""
        self._ended = True
        if self.transport is not None:
            self.transport.abortConnection()

    # ------------------------------------------------------------------ the connection

    def dataReceived(self, data: bytes) -> None:
        self._buffer += data
        try:
            self._read()
        except Exception as error:  # the decoder was made for peers that mean well
            self._break(f"it speaks no LDAP: {type(error).__name__}")

    def _read(self) -> None:
        from ldaptor.protocols import pureber, pureldap
        from ldaptor.protocols.ldap.ldapclient import LDAPClient

        while self._buffer and not self._ended:
            try:
                message, size = pureber.berDecodeObject(LDAPClient.berdecoder, self._buffer)
            except pureber.BERExceptionInsufficientData:
                size = 0
            if not size:
                if len(self._buffer) > LARGEST:
                    self._break("its answer is too large")
                return
            self._buffer = self._buffer[size:]
            if message.id == 0:
                self._break("it has ended the connection")  # 4511 4.4.1: the only unsolicited one there is
            elif message.id != self._number or self._awaited is None:
                self._break("it answers what nobody asked")
            elif isinstance(message.value, pureldap.LDAPSearchResultEntry):
                if len(self._entries) < 2:
                    self._entries.append(bytes(message.value.objectName))
            elif not isinstance(message.value, pureldap.LDAPSearchResultReference):
                awaited, self._awaited = self._awaited, None
                awaited.callback(int(message.value.resultCode))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._ended = True
        problem = getattr(getattr(self._creator, "peer", None), "problem", None)
        self._fail(problem or self._problem)

    def _break(self, problem: str) -> None:
        self._problem = problem
        self.end()
        self._fail(problem)

    def _fail(self, problem: str) -> None:
        awaited, self._awaited = self._awaited, None
        if awaited is not None:
            awaited.errback(Unreachable(problem))

    def _ask(self, operation: Any) -> Deferred[Any]:
        from ldaptor.protocols import pureldap

        answer: Deferred[Any] = Deferred(lambda _: self._given_up())
        if self._ended:
            answer.errback(Unreachable(self._problem))
            return answer
        self._number += 1
        self._awaited = answer
        self.transport.write(pureldap.LDAPMessage(operation, id=self._number).toWire())
        return answer

    def _given_up(self) -> None:
        self._awaited = None
        self._problem = "no answer in time"
        self.end()


def _wired(node: Filter, name: bytes) -> Any:
    """The filter as ldaptor has it, for the client of this name."""
    from ldaptor.protocols import pureldap

    if isinstance(node, Group):
        members = [_wired(member, name) for member in node.members]
        if node.operator == "!":
            return pureldap.LDAPFilter_not(members[0])
        return (pureldap.LDAPFilter_and if node.operator == "&" else pureldap.LDAPFilter_or)(members)
    if isinstance(node, Present):
        return pureldap.LDAPFilter_present(node.attribute)
    if isinstance(node, Extensible):
        return pureldap.LDAPFilter_extensibleMatch(
            matchingRule=pureldap.LDAPMatchingRuleAssertion_matchingRule(node.rule) if node.rule else None,
            type=pureldap.LDAPMatchingRuleAssertion_type(node.attribute) if node.attribute else None,
            matchValue=pureldap.LDAPMatchingRuleAssertion_matchValue(filled(node.value, name)),
            dnAttributes=pureldap.LDAPMatchingRuleAssertion_dnAttributes(1) if node.with_dn else None,
        )
    if isinstance(node, Substrings):
        return pureldap.LDAPFilter_substrings(type=node.attribute, substrings=list(_substrings(node, name)))
    kinds = {
        "=": pureldap.LDAPFilter_equalityMatch,
        "~=": pureldap.LDAPFilter_approxMatch,
        ">=": pureldap.LDAPFilter_greaterOrEqual,
        "<=": pureldap.LDAPFilter_lessOrEqual,
    }
    return kinds[node.operator](
        attributeDesc=pureldap.LDAPAttributeDescription(node.attribute),
        assertionValue=pureldap.LDAPAssertionValue(filled(node.value, name)),
    )


def _substrings(node: Substrings, name: bytes) -> Any:
    from ldaptor.protocols import pureldap

    last = len(node.pieces) - 1
    for at, piece in enumerate(node.pieces):
        if piece:
            kind = (
                pureldap.LDAPFilter_substrings_initial
                if at == 0
                else pureldap.LDAPFilter_substrings_final
                if at == last
                else pureldap.LDAPFilter_substrings_any
            )
            yield kind(filled(piece, name))

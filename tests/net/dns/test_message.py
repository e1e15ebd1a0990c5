"""What responses mean, and that no octets whatever do harm."""

from __future__ import annotations

import dns.flags
import dns.message
import dns.rrset
from dns.rdatatype import RdataType
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.net.dns.message import Answer, Query, Question, Truncated, Unusable

MX = Question("a.test", RdataType.MX)


def response(query: Query, *answers: str, authority: str = "", flags: int = 0) -> dns.message.Message:
    """A true response with these records, `owner ttl type data`."""
    made = dns.message.make_response(dns.message.from_wire(query.wire))
    made.flags |= flags
    for record in answers:
        owner, ttl, kind, data = record.split(" ", 3)
        made.answer.append(dns.rrset.from_text(owner, int(ttl), "IN", kind, data))
    if authority:
        owner, ttl, kind, data = authority.split(" ", 3)
        made.authority.append(dns.rrset.from_text(owner, int(ttl), "IN", kind, data))
    return made


SOA = "test. 600 SOA ns.test. root.test. 1 3600 600 86400 120"


class QueryTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.query = Query(MX, trusted=True)

    def answer(self, query: Query, *records: str, authority: str = "", flags: int = 0) -> Answer:
        """What `query` reads in such a response."""
        said = query.read(response(query, *records, authority=authority, flags=flags).to_wire())
        assert isinstance(said, Answer), said
        return said

    def test_the_ttl_is_that_of_the_shortest_lived(self) -> None:
        """Of the records and all CNAMEs before them; of a negative answer, SOA's own or its minimum."""
        chain = ("a.test. 50 CNAME b.test.", "b.test. 70 MX 1 mx.test.")
        answer = self.answer(self.query, *chain)
        self.assertEqual((answer.ttl, answer.name, len(answer.records)), (50, "b.test", 1))
        answer = self.answer(self.query, authority=SOA)
        self.assertEqual((answer.ttl, answer.exists, answer.records), (120, True, ()))

    def test_ad_counts_only_where_the_server_is_trusted(self) -> None:
        """And is asked for only there."""
        for trusted in (True, False):
            query = Query(MX, trusted=trusted)
            self.assertEqual(bool(dns.message.from_wire(query.wire).flags & dns.flags.AD), trusted)
            answer = self.answer(query, "a.test. 50 MX 1 m.test.", flags=dns.flags.AD)
            self.assertEqual(answer.secure, trusted)

    def test_records_of_other_names_and_types_are_nothing(self) -> None:
        """An answer section full of somebody else's records is as good as empty."""
        answer = self.answer(self.query, "b.test. 50 MX 1 evil.test.", "a.test. 50 A 192.0.2.1", authority=SOA)
        self.assertEqual(answer.records, ())

    def test_an_answer_beside_nxdomain_is_unusable(self) -> None:
        """It contradicts itself."""
        made = response(self.query, "a.test. 50 MX 1 m.test.")
        made.set_rcode(dns.rcode.NXDOMAIN)
        self.assertIsInstance(self.query.read(made.to_wire()), Unusable)

    def test_a_query_is_no_response(self) -> None:
        """What we sent, sent back, is ignored."""
        self.assertIsNone(self.query.read(self.query.wire))

    def test_every_beginning_of_a_response_is_safe(self) -> None:
        """Cut anywhere, a response is ignored, truncated or unusable; it is never an answer."""
        made = response(self.query, "a.test. 50 MX 1 m.test.", "a.test. 50 TXT x")
        wire = made.to_wire()
        for at in range(len(wire)):
            said = self.query.read(wire[:at])
            self.assertFalse(isinstance(said, Answer), at)
        made.flags |= dns.flags.TC
        cut = made.to_wire()[: len(wire) - 3]
        self.assertEqual(self.query.read(cut), Truncated())

    @given(st.binary(max_size=600))
    def test_no_octets_raise(self, octets: bytes) -> None:
        """Neither as a whole datagram, nor behind a header and question that are ours."""
        query = Query(MX, trusted=True)
        head = response(query).to_wire()
        for wire in (octets, head[:12] + octets, head[:7] + b"\3" + head[8:] + octets, head[:4] + octets):
            query.read(wire)

    @given(st.data())
    def test_no_damaged_response_raises(self, data: st.DataObject) -> None:
        """A true response with some octets changed."""
        query = Query(MX, trusted=True)
        chain = ("a.test. 50 CNAME b.test.", "b.test. 70 MX 1 mx.test.")
        wire = bytearray(response(query, *chain, authority=SOA).to_wire())
        for at, value in data.draw(
            st.dictionaries(st.integers(0, len(wire) - 1), st.integers(0, 255), max_size=8)
        ).items():
            wire[at] = value
        query.read(bytes(wire))

"""Header blocks: fields of every shape, and address lists that try to hide an address."""

from __future__ import annotations

from email.utils import getaddresses

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.errors import WireError
from dcrouter.wire.header import MAX_ADDRESSES, addresses, block, count, fields


class BlockTests(SynchronousTestCase):
    def test_the_block_ends_at_the_first_empty_line(self) -> None:
        """With its last CRLF; a message may have none, or no end of it yet."""
        self.assertEqual(block(b"A: b\r\n\r\ntext\r\n\r\n"), b"A: b\r\n")
        self.assertEqual(block(b"\r\ntext\r\n"), b"")
        self.assertIsNone(block(b"A: b\r\nC: d\r\n"))
        self.assertIsNone(block(b""))

    def test_fields_of_every_shape(self) -> None:
        """Folded, empty, with blanks before the colon, in any case, behind a line that is no field."""
        head = b"From nobody\r\nA: b\r\n c\r\n\td\r\nSUBJECT:\r\nFrom \t: x\r\n:\r\n no: field\r\nB:c: d\r\n"
        self.assertEqual(
            list(fields(head)), [("a", b" b\r\n c\r\n\td"), ("subject", b""), ("from", b" x"), ("b", b"c: d")]
        )

    def test_counting_by_name(self) -> None:
        """At the beginnings of lines, in any case, also with blanks before the colon."""
        self.assertEqual(count(b"Received: a\r\n received: x\r\nRECEIVED: b\r\nX-Received: c\r\n", b"received"), 2)
        self.assertEqual(count(b"Received\t: a\r\nreceived : b\r\nReceived-By: c\r\nReceived\r\n", b"received"), 2)

    @given(st.lists(st.tuples(st.from_regex(rb"[!-9;-~]{1,9}", fullmatch=True), st.binary(max_size=20)), max_size=5))
    def test_well_formed_fields_come_back(self, pairs: list[tuple[bytes, bytes]]) -> None:
        """Names in lower case, values as they were."""
        clean = [(name, b" " + value.replace(b"\r", b"").replace(b"\n", b"")) for name, value in pairs]
        head = b"".join(name + b":" + value + b"\r\n" for name, value in clean)
        self.assertEqual(list(fields(head)), [(name.decode().lower(), value) for name, value in clean])


class AddressTests(SynchronousTestCase):
    TABLE = [
        (b"a@x.example", ["a@x.example"]),
        (b" Alice <a@x.example>", ["a@x.example"]),
        (b' "a@evil.example" <a@x.example>', ["a@x.example"]),
        (b"a@evil.example <a@x.example>", ["a@evil.example", "a@x.example"]),
        (b"Alice B. Sample <a@x.example>, Bob\r\n <b@y.example>", ["a@x.example", "b@y.example"]),
        (b"a@x.example (Alice (the) \\) first)", ["a@x.example"]),
        (b"(<c@z.example>) a@x.example", ["a@x.example"]),
        (b"a (c) @ (d) x.example", ["a@x.example"]),
        (b"a . b @ x . example", ["a.b@x.example"]),
        (b'"a b"@x.example', ['"a b"@x.example']),
        (b'"ab"@x.example', ["ab@x.example"]),
        (b"<@r.example,@s.example:a@x.example>", ["a@x.example"]),
        (b"a@[192.0.2.1]", ["a@[192.0.2.1]"]),
        (b"Friends: a@x.example, B <b@y.example>; , c@z.example", ["a@x.example", "b@y.example", "c@z.example"]),
        (b"undisclosed-recipients:;", []),
        (b"", []),
        ("J\u00fcrgen <j@x.example>".encode(), ["j@x.example"]),
        (b"J\xfcrgen <j@x.example>", ["j@x.example"]),
        (b"=?utf-8?q?a=40evil?= <a@x.example>", ["a@x.example"]),
    ]

    def test_every_address_is_found(self) -> None:
        """Quoted names are names; unquoted ones that look like an address are addresses."""
        for value, expected in self.TABLE:
            with self.subTest(value=value):
                self.assertEqual(addresses(value), expected)

    def test_what_readers_could_read_differently_is_refused(self) -> None:
        """Two addresses in one mailbox, words behind or within one, quotes and comments that do not end."""
        for value in (
            b"<a@x.example> <b@y.example>",
            b"<a@x.example> b@y.example",
            b"<a@x.example>b",
            b"a@x.example b@y.example",
            b"alice a@x.example",
            b"<a@x.example",
            b"a@x.example>",
            b"<>",
            b"alice",
            b"<alice>",
            b"<a@x.example,b@y.example>",
            b"<a@x.example;b>",
            b'"a@x.example',
            b"(a@x.example",
            b"a@x.example)",
            b"a@x.example: b@y.example;",
            b"<a@x.example>: b@y.example;",
            b"a@b@x.example",
            b"a b@x.example",
            b"a@x.exam ple",
            b"<<a@x.example>>",
            "a@x.example\u00fc.\u200b".encode(),
            b"a@x.example\\",
        ):
            with self.subTest(value=value):
                self.assertRaises(WireError, addresses, value)

    def test_the_number_of_addresses_is_bounded(self) -> None:
        """A list beyond any use is refused."""
        self.assertRaises(WireError, addresses, b"a@x.example," * (MAX_ADDRESSES + 1))

    @given(st.lists(st.sampled_from([b"a@x.example", b'"b@y"', b"<", b">", b",", b" ", b"(", b")", b":", b";", b"c"])))
    def test_no_reader_finds_an_address_that_we_do_not(self, pieces: list[bytes]) -> None:
        """Whatever the standard library's reader takes for an address is among ours, or the value is refused."""
        value = b"".join(pieces)
        try:
            ours = addresses(value)
        except WireError:
            return
        theirs = {address for _, address in getaddresses([value.decode()]) if address.endswith("@x.example")}
        self.assertLessEqual(theirs, set(ours))

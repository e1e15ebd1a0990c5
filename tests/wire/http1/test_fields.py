"""The fields of a head: looking at them, changing them, and what of them goes no further."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dcrouter.wire.http1.fields import Fields, options, split, trailers

BLOCK = b"Host: a.example\r\nX-One: 1\r\nx-one:  2 \r\nAccept:\r\nConnection: close, X-One\r\nconnection:\tTE\r\n\r\n"


class FieldTests(SynchronousTestCase):
    def test_lines_are_kept_as_they_came(self) -> None:
        """Names are told in lower case, and nothing else changes."""
        fields = Fields(split(BLOCK))
        self.assertEqual([name for name, _ in fields.lines][:4], ["host", "x-one", "x-one", "accept"])
        self.assertEqual(fields.to_bytes() + b"\r\n", BLOCK)

    def test_looking(self) -> None:
        """In any case of the name; values without the space around them."""
        fields = Fields(split(BLOCK))
        self.assertEqual((fields.get("HOST"), fields.get("Accept"), fields.get("None")), ("a.example", "", None))
        self.assertEqual(fields.values("X-ONE"), ["1", "2"])
        self.assertTrue("x-One" in fields)
        self.assertFalse("x-Two" in fields)

    def test_changing(self) -> None:
        """set leaves one, add one more, remove none."""
        fields = Fields(split(BLOCK))
        fields.set("X-One", "3")
        fields.add("X-Two", "\xe4")
        fields.remove("connection")
        fields.remove("x-three")
        self.assertEqual(fields.to_bytes(), b"Host: a.example\r\nAccept:\r\nX-One: 3\r\nX-Two: \xe4\r\n")

    def test_no_value_can_add_a_line(self) -> None:
        """Nor can a name, nor anything frame the message anew."""
        fields = Fields()
        for name, text in (("A", "b\r\nC: d"), ("A", "b\nc"), ("A\r\nB", "c"), ("A:", "b"), ("Content-Length", "5")):
            self.assertRaises(ValueError, fields.set, name, text)
            self.assertRaises(ValueError, fields.add, name, text)
        self.assertEqual(fields.lines, [])

    def test_options(self) -> None:
        """Of all lines, in lower case."""
        self.assertEqual(options(split(BLOCK), "connection"), {"close", "x-one", "te"})
        self.assertEqual(options(split(BLOCK), "te"), frozenset())

    def test_trailers(self) -> None:
        """What frames, routes or authenticates is left out; what is no field spoils them all."""
        block = b"X-Sum: 7\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\nX_Forwarded_For: 1\r\nHost: b\r\n"
        self.assertEqual(trailers(block), b"X-Sum: 7\r\n")
        self.assertEqual(trailers(b""), b"")
        self.assertIsNone(trailers(b"X-Sum: 7\r\nX\r\n"))

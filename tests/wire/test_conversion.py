"""Content written anew: somebody else's parser finds the same text and the same octets in it."""

from __future__ import annotations

import base64
import email
import email.policy
import quopri
from email.message import EmailMessage, Message

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.errors import WireError
from dcrouter.net.slices import finished
from dcrouter.wire.conversion import MAX_DEPTH, _has_long_line, conversion

UMLAUTS = "Gr\u00fc\u00dfe,\r\n\r\n.\r\n\u00e4\u00f6\u00fc = 1 \r\nFrom here\r\n"
TEXT = b"Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
TEXT += b"Content-Transfer-Encoding: 8bit\r\nTo: b@y\r\n\r\n" + UMLAUTS.encode()
PICTURE = b"\x89PNG\r\n\x1a\n\0\0" + bytes(range(256))


def converted(octets: bytes, *, eightbit: bool = False) -> bytes:
    return finished(conversion(octets, eightbit=eightbit))


def multipart(kind: str, *parts: bytes, boundary: str = "b=_1") -> bytes:
    mark = f"--{boundary}".encode()
    inner = b"".join(mark + b"\r\n" + part + b"\r\n" for part in parts)
    head = f'Content-Type: multipart/{kind};\r\n boundary="{boundary}"\r\nContent-Transfer-Encoding: 8bit\r\n\r\n'
    return head.encode() + b"preamble\r\n" + inner + mark + b"--\r\nepilogue\r\n"


def leaves(octets: bytes) -> list[tuple[str, bytes]]:
    """(type, content) of each part that has no parts."""
    found: list[tuple[str, bytes]] = []

    def walk(part: Message) -> None:
        assert not part.defects, part.defects
        if part.is_multipart():
            for inner in part.get_payload():
                walk(inner)  # type: ignore[arg-type]
        else:
            found.append((part.get_content_type(), part.get_payload(decode=True)))  # type: ignore[arg-type]

    walk(email.message_from_bytes(octets, policy=email.policy.SMTP))
    return found


class ConversionTests(SynchronousTestCase):
    def seven(self, octets: bytes) -> None:
        self.assertTrue(octets.isascii())
        self.assertNotIn(b"\0", octets)
        self.assertEqual(octets.count(b"\n"), octets.count(b"\r\n"))
        self.assertEqual(octets.count(b"\r"), octets.count(b"\r\n"))
        self.assertLessEqual(max(map(len, octets.split(b"\r\n"))), 998)

    def test_text_becomes_quoted_printable(self) -> None:
        """Other fields stay as they are and where they are; the text is the same. RFC 6152 3, RFC 2045 6.7."""
        made = converted(TEXT)
        self.seven(made)
        self.assertEqual(made.partition(b"\r\n\r\n")[0].count(b"Content-Transfer-Encoding"), 1)
        message = email.message_from_bytes(made, policy=email.policy.SMTP)
        assert isinstance(message, EmailMessage)
        self.assertEqual(message["Content-Transfer-Encoding"], "quoted-printable")
        self.assertEqual(message["To"], "b@y")
        self.assertEqual(leaves(made), [("text/plain", UMLAUTS.encode())])

    def test_what_is_large_is_encoded_in_steps(self) -> None:
        """Each less than a millisecond's; together they are what one step would be, by lines and by octets."""
        text = "".join(f"{number} Grüße = \t \r\n.\r\n" for number in range(20_000)).encode()
        for octets, encoded in (
            (text, quopri.encodestring(text.replace(b"\r\n", b"\n")).replace(b"\n", b"\r\n")),
            (PICTURE * 2000, base64.encodebytes(PICTURE * 2000).replace(b"\n", b"")),
        ):
            steps = conversion(b"MIME-Version: 1.0\r\nContent-Type: text/plain\r\n\r\n" + octets)
            count = 0
            while True:
                try:
                    next(steps)
                except StopIteration as end:
                    made = end.value
                    break
                count += 1
            self.assertGreater(count, len(octets) // (2 * 57_000))
            body = made.partition(b"\r\n\r\n")[2]
            self.seven(made)
            if octets is text:
                self.assertEqual(quopri.decodestring(body.replace(b"\r\n", b"\n")), text.replace(b"\r\n", b"\n"))
                self.assertEqual(body, encoded)
            else:
                self.assertEqual(body.replace(b"\r\n", b""), encoded)

    def test_text_without_mime_gets_a_label(self) -> None:
        """unknown-8bit, for nobody knows what it is. RFC 1428 3."""
        made = converted(b"Subject: x\r\n\r\n\xe4\xf6\r\n")
        message = email.message_from_bytes(made)
        self.assertEqual((message["MIME-Version"], message.get_content_charset()), ("1.0", "unknown-8bit"))
        self.assertEqual(message.get_payload(decode=True), b"\xe4\xf6\r\n")

    def test_each_part_for_itself(self) -> None:
        """Only what has to be is encoded, boundaries stay, and no composite says that it is 8-bit. RFC 2045 6.4."""
        plain = b"Content-Type: text/html\r\n\r\n<p>ascii\r\n"
        picture = b"Content-Type: image/png\r\nContent-Transfer-Encoding: binary\r\n\r\n" + PICTURE
        nested = b"Content-Type: message/rfc822\r\n\r\n" + TEXT
        inner = multipart("alternative", TEXT, boundary="in")
        octets = b"MIME-Version: 1.0\r\n" + multipart("mixed", plain, inner, picture, nested)
        made = converted(octets)
        self.seven(made)
        self.assertIn(plain, made)
        self.assertIn(b"preamble\r\n--b=_1\r\n", made)
        self.assertNotIn(b"8bit", made)
        self.assertNotIn(b"binary", made)
        self.assertEqual(
            leaves(made),
            [
                ("text/html", b"<p>ascii\r\n"),
                ("text/plain", UMLAUTS.encode()),
                ("image/png", PICTURE),
                ("text/plain", UMLAUTS.encode()),
            ],
        )

    def test_a_digest_has_messages(self) -> None:
        """A part without a type is one there. RFC 2046 5.1.5."""
        made = converted(multipart("digest", b"\r\n" + TEXT))
        self.seven(made)
        self.assertEqual(leaves(made)[0][1], UMLAUTS.encode())

    def test_binary_for_who_takes_eight_bits(self) -> None:
        """Only what is no lines is encoded, or has too long ones. RFC 3030 3."""
        binary = b"Content-Type: application/x\r\nContent-Transfer-Encoding: binary\r\n\r\n\0\n\r\xff"
        long = b"Content-Type: text/plain; charset=utf-8\r\n\r\n" + b"\xc3\xa4" * 999
        made = converted(multipart("mixed", TEXT, binary, long), eightbit=True)
        self.assertIn(TEXT, made)
        self.assertEqual(leaves(made)[1:], [("application/x", b"\0\n\r\xff"), ("text/plain", b"\xc3\xa4" * 999)])
        self.assertLessEqual(max(map(len, made.split(b"\r\n"))), 998)
        self.assertEqual(made.count(b"\n"), made.count(b"\r\n"))

    def test_what_may_not_be_changed_is_not(self) -> None:
        """Signed and encrypted parts (RFC 1847 2.1), headers beyond ASCII, content that is not what it says, and what
        has no structure."""
        for octets in (
            multipart("signed", TEXT, b"Content-Type: application/pgp-signature\r\n\r\nx"),
            multipart("mixed", multipart("signed", TEXT, b"\r\nx", boundary="in")),
            "Subject: \u00fc\r\n\r\n".encode() + b"\xff\r\n",
            b"Content-Transfer-Encoding: base64\r\n\r\n\xff\r\n",
            b"Content-Type: message/partial\r\n\r\n\xff\r\n",
            b"Content-Type: multipart/mixed\r\n\r\n\xff\r\n",
            b"Content-Type: multipart/mixed; boundary=x\r\n\r\n\xff\r\n",
        ):
            self.assertRaises(WireError, converted, octets)
        signed = multipart("signed", b"Content-Type: text/plain\r\n\r\nascii", b"\r\nx")
        self.assertIn(signed, converted(multipart("mixed", signed, TEXT, boundary="out")))

    def test_parts_within_parts_have_an_end(self) -> None:
        """A bomb of them is refused, and takes no time."""
        octets = b"\r\n\xff"
        for at in range(MAX_DEPTH + 2):
            octets = multipart("mixed", octets, boundary=f"b{at}")
        self.assertRaises(WireError, converted, octets)

    def test_bombs_are_refused_soon(self) -> None:
        """Large and deep at once, too many parts, a header without end."""
        deep = (b"\xff" * 900 + b"\r\n") * 1000
        for at in range(20):
            deep = multipart("mixed", deep, boundary=f"b{at}")
        many = b"Content-Type: multipart/mixed; boundary=x\r\n\r\n" + b"--x\r\n\r\n\xff\r\n" * 20_000
        for octets in (deep, many, b"X: y\r\n" * 100_000 + b"\r\n\xff"):
            self.assertRaises(WireError, converted, octets)

    @given(st.binary(max_size=600), st.booleans())
    def test_whatever_comes_is_lines_or_refused(self, octets: bytes, eightbit: bool) -> None:
        """And the content is the same octets."""
        for head in (b"Content-Type: text/plain\r\n", b"Content-Type: application/x\r\n", b""):
            made = converted(head + b"\r\n" + octets, eightbit=eightbit)
            if not eightbit:
                self.seven(made)
            self.assertEqual(leaves(made)[0][1], octets)

    @given(st.binary(max_size=400))
    def test_nothing_is_too_broken(self, octets: bytes) -> None:
        """A WireError at most, wherever the octets stand."""
        parts = b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n"
        for before in (b"", parts, b"Content-Type: message/rfc822\r\n\r\n"):
            try:
                self.seven(converted(before + octets))
            except WireError:
                continue

    @given(st.lists(st.integers(0, 2100), max_size=6), st.booleans())
    def test_lines_of_998_octets_are_the_longest(self, lengths: list[int], ended: bool) -> None:
        """With and without an end of the last one. RFC 5322 2.1.1."""
        octets = b"\r\n".join(b"x" * length for length in lengths) + (b"\r\n" if ended else b"")
        self.assertEqual(_has_long_line(octets), any(length > 998 for length in lengths))
        for length in (997, 998, 999):
            self.assertEqual(_has_long_line(b"a\r\n" + b"x" * length + b"\r\nb"), length > 998)

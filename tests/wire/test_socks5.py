from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.errors import ProxyRefusal, WireError
from dcrouter.wire.socks5 import LONGEST, Socks5

OPEN = b"\x05\x00\x00\x01\x7f\x00\x00\x01\x04\x38"


def talk(client: Socks5, data: bytes) -> tuple[bytes, int | None]:
    """What the client says to `data`, never given more than it wants; and how much it had read at the end (or None)."""
    said = client.opening
    at = 0
    while at < len(data):
        piece = data[at : at + client.wants]
        at += len(piece)
        words = client.feed(piece)
        if words is None:
            return said, at
        said += words
    return said, None


class RequestTests(SynchronousTestCase):
    def test_a_name_goes_to_the_proxy_as_it_is(self) -> None:
        """The proxy resolves it (RFC 1928 section 4, address type 3)."""
        said, _ = talk(Socks5("app.test", 8080), b"\x05\x00" + OPEN)
        self.assertEqual(said, b"\x05\x01\x00" + b"\x05\x01\x00\x03\x08app.test\x1f\x90")

    def test_addresses_of_both_families(self) -> None:
        """As octets."""
        for host, octets in (("192.0.2.1", b"\x01\xc0\x00\x02\x01"), ("2001:db8::1", b"\x04\x20\x01\x0d\xb8")):
            said, _ = talk(Socks5(host, 80), b"\x05\x00" + OPEN)
            self.assertTrue(said[3:].startswith(b"\x05\x01\x00" + octets), host)
            self.assertTrue(said.endswith(b"\x00\x50"))

    def test_a_login_is_said_where_the_proxy_asks_for_it(self) -> None:
        """And not where it does not."""
        said, end = talk(Socks5("a", 1, "me", "secret"), b"\x05\x02" + b"\x01\x00" + OPEN)
        self.assertEqual(said, b"\x05\x02\x00\x02" + b"\x01\x02me\x06secret" + b"\x05\x01\x00\x03\x01a\x00\x01")
        self.assertEqual(end, 4 + len(OPEN))
        said, _ = talk(Socks5("a", 1, "me", "secret"), b"\x05\x00" + OPEN)
        self.assertNotIn(b"secret", said)

    def test_what_socks_cannot_say(self) -> None:
        """A name of 256 octets, an empty password."""
        for arguments in (("a" * 256, 1), ("a", 1, "u" * 256, "p"), ("a", 1, "u", "")):
            self.assertRaises(ValueError, Socks5, *arguments)
        self.assertEqual(len(talk(Socks5("a" * LONGEST, 1), b"\x05\x00")[0]), 3 + 4 + 1 + LONGEST + 2)


class ReplyTests(SynchronousTestCase):
    @given(
        st.sampled_from(
            (
                b"\x01" + bytes(4),
                b"\x04" + bytes(16),
                b"\x03\x00",
                b"\x03\x01x",
                b"\x03\xff" + bytes(255),
            )
        ),
        st.binary(max_size=40),
        st.data(),
    )
    def test_not_one_byte_of_the_targets_is_taken(self, bound: bytes, behind: bytes, data: st.DataObject) -> None:
        """Whatever the pieces in which a reply comes, and whatever address it tells."""
        client = Socks5("app.test", 1)
        reply = b"\x05\x00" + b"\x05\x00\x00" + bound + b"\x00\x50"
        stream = reply + behind
        at = 0
        words: bytes | None = client.opening
        while words is not None:
            size = min(client.wants, data.draw(st.integers(1, 20)))
            words = client.feed(stream[at : at + size])
            at += size
        self.assertEqual(at, len(reply))

    def test_refusals_in_words(self) -> None:
        """Each code of RFC 1928, and what is no SOCKS at all."""
        for reply, login, problem in (
            (b"HTTP/1.1 400", False, "the proxy does not speak SOCKS 5"),
            (b"\x04\x5a", False, "the proxy does not speak SOCKS 5"),
            (b"\x05\xff", False, "the proxy wants a login"),
            (b"\x05\x02", False, "the proxy wants a login"),
            (b"\x05\xff", True, "the proxy takes no login by user and password"),
            (b"\x05\x02\x01\x01", True, "the proxy has refused the user or the password"),
            (b"\x05\x00\x05\x02\x00\x01", False, "the proxy's rules do not allow it"),
            (b"\x05\x00\x05\x05\x00\x01", False, "the target has refused the proxy's connection"),
            (b"\x05\x00\x05\x63\x00\x01", False, "the proxy refuses with code 99"),
            (b"\x05\x00\x04\x00\x00\x01", False, "the proxy does not speak SOCKS 5"),
            (b"\x05\x00\x05\x00\x00\x09", False, "the proxy's reply has an address of no kind"),
        ):
            client = Socks5("a", 1, "me", "secret") if login else Socks5("a", 1)
            error = self.assertRaises(WireError, talk, client, reply)
            self.assertEqual(str(error), problem)

    def test_whom_a_reply_blames(self) -> None:
        """RFC 1928 section 6: network, host, connection, time: the target; rules, kind of address: this proxy, for this
        target; no CONNECT: the proxy.
        """
        blamed = {1: False, 2: False, 3: True, 4: True, 5: True, 6: True, 8: False, 99: False}
        for code, final in blamed.items():
            client = Socks5("a", 1)
            self.assertFalse(client.asked)
            error = self.assertRaises(ProxyRefusal, talk, client, b"\x05\x00\x05" + bytes((code, 0, 1)))
            self.assertEqual((error.final, client.asked), (final, True), code)
        error = self.assertRaises(WireError, talk, Socks5("a", 1), b"\x05\x00\x05\x07\x00\x01")
        self.assertNotIsInstance(error, ProxyRefusal)

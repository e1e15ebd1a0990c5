"""The ClientHello parser: real hellos, cut and re-framed everywhere, and the ways to get one wrong."""

from __future__ import annotations

import socket
import ssl
import struct
import subprocess
from collections.abc import Iterable, Sequence

from hypothesis import given, settings
from hypothesis import strategies as st
from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.errors import WireError
from dcrouter.wire import clienthello
from dcrouter.wire.clienthello import ALERT_DECODE_ERROR, ClientHello, looks_like_tls, needed, parse
from tests.support.peers import require


def by_openssl(name: bytes | None = b"www.Example.com", alpn: Sequence[bytes] = (), newest: int | None = None) -> bytes:
    """What pyOpenSSL sends first, as one record."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    if alpn:
        context.set_alpn_protos(list(alpn))
    if newest is not None:
        context.set_max_proto_version(newest)
    connection = SSL.Connection(context, None)
    if name is not None:
        connection.set_tlsext_host_name(name)
    connection.set_connect_state()
    try:
        connection.do_handshake()
    except SSL.WantReadError:
        return connection.bio_read(65536)
    raise AssertionError("a handshake without a server")


def by_ssl(name: str | None, alpn: Sequence[str]) -> bytes:
    """What Python's ssl sends first, as one record."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.set_alpn_protocols(list(alpn))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = context.wrap_bio(incoming, outgoing, server_hostname=name)
    try:
        session.do_handshake()
    except ssl.SSLWantReadError:
        return outgoing.read()
    raise AssertionError("a handshake without a server")


def reframed(record: bytes, size: int) -> bytes:
    """The one record `record` as records of at most `size` bytes of content."""
    content = record[5:]
    pieces = [content[at : at + size] for at in range(0, len(content), size)]
    return b"".join(record[:3] + struct.pack(">H", len(piece)) + piece for piece in pieces)


def extension(kind: int, value: bytes) -> bytes:
    return struct.pack(">HH", kind, len(value)) + value


def server_name(name: bytes, kind: int = 0) -> bytes:
    entry = struct.pack(">BH", kind, len(name)) + name
    return extension(0, struct.pack(">H", len(entry)) + entry)


def numbers(kind: int, values: Sequence[int], prefix: str) -> bytes:
    return extension(kind, struct.pack(f"{prefix}{len(values)}H", 2 * len(values), *values))


def alpn(*names: bytes) -> bytes:
    listed = b"".join(bytes([len(name)]) + name for name in names)
    return extension(16, struct.pack(">H", len(listed)) + listed)


def body(extensions: Iterable[bytes] | None = (), *, version: int = 0x0303, session_id: bytes = b"") -> bytes:
    """A handshake message of one's own making."""
    inner = struct.pack(">H32sB", version, b"r" * 32, len(session_id)) + session_id
    inner += b"\x00\x04\x13\x01\x0a\x0a\x01\x00"
    if extensions is not None:
        joined = b"".join(extensions)
        inner += struct.pack(">H", len(joined)) + joined
    return b"\x01" + len(inner).to_bytes(3, "big") + inner


def record(content: bytes, kind: int = 0x16, version: int = 0x0301) -> bytes:
    return struct.pack(">BHH", kind, version, len(content)) + content


def hello(*extensions: bytes) -> bytes:
    return record(body(extensions))


class RealHellos(SynchronousTestCase):
    """Hellos of the libraries that clients use."""

    def found(self, data: bytes) -> ClientHello:
        result = parse(data)
        assert result is not None
        self.assertEqual(result.length, len(data))
        return result

    def test_pyopenssl_with_sni_and_alpn(self) -> None:
        """Name in lower case, protocols in order, versions newest first."""
        result = self.found(by_openssl(alpn=[b"h2", b"http/1.1"]))
        self.assertEqual(result.sni, "www.example.com")
        self.assertEqual(result.alpn, ("h2", "http/1.1"))
        self.assertEqual(result.versions[:2], (0x0304, 0x0303))

    def test_without_sni(self) -> None:
        """No name is None, not an empty one."""
        result = self.found(by_openssl(None))
        self.assertIsNone(result.sni)
        self.assertEqual(result.alpn, ())

    def test_tls12_only(self) -> None:
        """Without supported_versions the legacy version tells."""
        self.assertEqual(self.found(by_openssl(newest=SSL.TLS1_2_VERSION)).versions, (0x0303,))

    def test_ssl_module(self) -> None:
        """Python's own library, another build of OpenSSL."""
        result = self.found(by_ssl("shop.example.org", ["acme-tls/1"]))
        self.assertEqual((result.sni, result.alpn), ("shop.example.org", ("acme-tls/1",)))

    def test_openssl_s_client(self) -> None:
        """The command line tool, heard on a real socket."""
        program = require("openssl")
        offers = ("-servername", "s.example.net", "-alpn", "h2,imap")
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.settimeout(60)
            client = subprocess.Popen(
                [program, "s_client", "-connect", f"127.0.0.1:{listener.getsockname()[1]}", *offers],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            try:
                peer, _ = listener.accept()
                with peer:
                    peer.settimeout(60)
                    data = b""
                    while (result := parse(data)) is None:
                        more = peer.recv(needed(data) - len(data))
                        self.assertTrue(more, "the client went away")
                        data += more
            finally:
                client.kill()
                client.wait()
        self.assertEqual((result.sni, result.alpn), ("s.example.net", ("h2", "imap")))

    def test_memoryview(self) -> None:
        """Any buffer will do."""
        data = by_openssl()
        self.assertEqual(parse(memoryview(data)), parse(data))
        self.assertEqual(needed(memoryview(data)[:7]), len(data))


class Cuts(SynchronousTestCase):
    """A hello may arrive in any pieces."""

    def test_cut_at_every_byte(self) -> None:
        """Each beginning wants more, and more than is there; what follows the hello changes nothing."""
        for data in (by_openssl(alpn=[b"h2"]), by_openssl(newest=SSL.TLS1_2_VERSION), reframed(by_openssl(), 100)):
            for cut in range(len(data)):
                self.assertIsNone(parse(data[:cut]), cut)
                self.assertTrue(cut < needed(data[:cut]) <= len(data), cut)
            whole = parse(data)
            self.assertIsNotNone(whole)
            self.assertLessEqual(needed(data), len(data))
            self.assertEqual(parse(data + b"\x14\x03\x03\x00\x01\x01"), whole)

    def test_reframed_at_every_size(self) -> None:
        """However the message is cut into records, it says the same; `needed` never asks for more than comes."""
        data = by_openssl(alpn=[b"h2", b"http/1.1"])
        whole = parse(data)
        assert whole is not None
        for size in range(1, len(data) - 4):
            framed = reframed(data, size)
            result = parse(framed)
            assert result is not None
            self.assertEqual(result.length, len(framed))
            self.assertEqual((result.sni, result.alpn, result.versions), (whole.sni, whole.alpn, whole.versions))

    def test_needed_leads_to_the_hello(self) -> None:
        """Who waits for `needed` each time gets there, in few steps even when the records are tiny."""
        data = by_openssl()
        for size in (1, 2, 3, 4, 5, 50, 512, 16384):
            framed = reframed(data, size)
            have = steps = 0
            while parse(framed[:have]) is None:
                have, before = needed(framed[:have]), have
                self.assertTrue(before < have <= len(framed))
                steps += 1
            self.assertEqual(have, len(framed))
            self.assertLess(steps, 80)

    def test_hello_over_many_full_records(self) -> None:
        """A hello as large as the bound allows is taken."""
        message = body([extension(21, bytes(65000))])
        data = reframed(record(message[:1]) + message[1:], 16384)
        result = parse(data)
        assert result is not None
        self.assertEqual(result.length, len(data))


class Values(SynchronousTestCase):
    """What is made of the extensions."""

    def found(self, *extensions: bytes) -> ClientHello:
        result = parse(hello(*extensions))
        assert result is not None
        return result

    def test_names(self) -> None:
        """Lower case, no final dot, A-labels and underscores as they are; an IPv4 literal is no name."""
        for sent, expected in (
            (b"WWW.example.COM", "www.example.com"),
            (b"example.com.", "example.com"),
            (b"xn--bcher-kva.example", "xn--bcher-kva.example"),
            (b"_dmarc.a-.example", "_dmarc.a-.example"),
            (b"localhost", "localhost"),
            (b"192.0.2.7", None),
            (b"1.2.3.4.5", "1.2.3.4.5"),
            (b".".join([b"a" * 63] * 3 + [b"b" * 61]), "a" * 63 + "." + "a" * 63 + "." + "a" * 63 + "." + "b" * 61),
        ):
            self.assertEqual(self.found(server_name(sent)).sni, expected)

    def test_grease_is_left_out(self) -> None:
        """GREASE in every place where clients put it neither breaks nor shows."""
        result = self.found(
            extension(0x0A0A, b""),
            numbers(43, [0xFAFA, 0x0304, 0x0303], ">B"),
            numbers(13, [0x1A1A, 0x0403], ">H"),
            alpn(b"\x2a\x2a", b"h2"),
            extension(0xBABA, b"\x00"),
        )
        self.assertEqual(result.versions, (0x0304, 0x0303))
        self.assertEqual(result.alpn, ("h2",))

    def test_no_extensions(self) -> None:
        """TLS 1.2 and older may come without; a legacy version beyond 1.2 means 1.2."""
        for version, expected in ((0x0301, 0x0301), (0x0303, 0x0303), (0x0304, 0x0303)):
            result = parse(record(body(None, version=version)))
            assert result is not None
            self.assertEqual((result.sni, result.versions), (None, (expected,)))

    def test_alpn_keeps_every_byte(self) -> None:
        """Protocol names are bytes: they come back unchanged."""
        self.assertEqual(self.found(alpn(b"\xff\x00", b"a" * 255)).alpn, ("\xff\x00", "a" * 255))


class Refusals(SynchronousTestCase):
    """Whatever is no hello is refused with an alert, as soon as it can be told."""

    def refused(self, data: bytes, why: str = "") -> None:
        error = self.assertRaises(WireError, parse, data)
        self.assertEqual(error.reply, ALERT_DECODE_ERROR)
        self.assertIn(why, str(error))
        self.assertLessEqual(needed(data), len(data))

    def test_other_protocols_at_their_first_bytes(self) -> None:
        """HTTP, SSH, SSLv2, alerts and noise never keep anybody waiting."""
        for data in (b"G", b"GET / HTTP/1.1\r\n", b"SSH-2.0-x\r\n", b"\x16\x02", b"\x15\x03\x01", b"\x00", b"\xff" * 9):
            self.refused(data, "not TLS")
        self.refused(b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10", "SSLv2")

    def test_records(self) -> None:
        """Empty, over-long and foreign records, one at a time and in floods."""
        good = body()
        self.refused(b"\x16\x03\x01\x00\x00", "empty")
        self.refused(b"\x16\x03\x01\x00\x00" * 5000, "empty")
        self.refused(record(good[:20]) + record(b""), "empty")
        self.refused(b"\x16\x03\x01\x40\x01", "too long")
        self.refused(record(good + bytes(3)), "after it")
        self.refused(record(good[:20]) + record(good[20:] + b"\x01"), "after it")
        self.refused(record(good[:20]) + b"\x15", "another kind")
        self.refused(record(good[:20]) + record(good[20:], kind=0x17), "another kind")
        self.refused(record(b"\x02" + good[1:]), "another handshake")
        self.refused(record(b"\x02"), "another handshake")

    def test_bounds(self) -> None:
        """A length that can never be let in is refused before its bytes come; so are too many records."""
        self.refused(b"\x16\x03\x01\x00\x04\x01\x01\x00\x00", "too long")
        self.refused(b"\x16\x03\x01\x40\x00\x01\xff\xff\xff", "too long")
        message = body([extension(21, bytes(4000))])
        self.refused(b"".join(record(message[at : at + 1]) for at in range(len(message))), "too many records")

    def test_twice(self) -> None:
        """An extension that comes twice, known or not."""
        self.refused(hello(server_name(b"a.example"), server_name(b"b.example")), "twice")
        self.refused(hello(extension(99, b""), extension(99, b"x")), "twice")

    def test_names(self) -> None:
        """Names that no host has: NUL, spaces, empty ones, several, of another kind, with wrong lengths."""
        for name in (b"", b"a\0.example", b"a b", b"a..b", b".", b".a", b"\xc3\xa4.example", b"a/b", b"[::1]", b"a\n"):
            self.refused(hello(server_name(name)), "server name")
        for name in (b"a" * 64, b".".join([b"a" * 63] * 4)):
            self.refused(hello(server_name(name)), "server name")
        two = b"".join(struct.pack(">BH", 0, 1) + name for name in (b"a", b"b"))
        self.refused(hello(extension(0, struct.pack(">H", len(two)) + two)), "several")
        self.refused(hello(server_name(b"a", kind=1)), "server name")
        for value in (
            b"",
            b"\x00",
            b"\x00\x00",
            b"\x00\x04\x00\x00\x02a",
            b"\x00\x05\x00\x00\x01ab",
            b"\x00\x03\x00\x00\x00",
        ):
            self.refused(hello(extension(0, value)), "server name")

    def test_lists(self) -> None:
        """ALPN and versions with wrong lengths or nothing in them."""
        for value in (b"", b"\x00\x00", b"\x00\x01\x00", b"\x00\x02\x02a", b"\x00\x03\x01a", b"\x00\x03\x01a\x00"):
            self.refused(hello(extension(16, value)), "ALPN")
        for value in (
            b"",
            b"\x00",
            b"\x01\x03",
            b"\x02\x03",
            b"\x04\x03\x04",
            b"\x02\x03\x04\x03",
            b"\x03\x03\x04\x03",
        ):
            self.refused(hello(extension(43, value)), "versions")

    def test_body(self) -> None:
        """Every length within the message that does not fit."""
        self.refused(record(b"\x01\x00\x00\x00"), "too short")
        self.refused(record(body(version=0x0203)), "version")
        self.refused(record(body(session_id=bytes(33))), "session id")
        good = bytearray(record(body([extension(99, b"abc")])))
        for at, value in (
            (43, 32),
            (45, 5),
            (45, 0),
            (45, 200),
            (50, 0),
            (50, 200),
            (51, 1),
            (53, 6),
            (57, 4),
            (57, 2),
        ):
            broken = bytearray(good)
            broken[at] = value
            self.refused(bytes(broken))

    @settings(max_examples=300)
    @given(st.binary(max_size=200))
    def test_noise(self, noise: bytes) -> None:
        """Any bytes give a hello, None or WireError, alone and inside a hello's frame; never another error."""
        for data in (noise, b"\x16\x03\x01" + noise, record(b"\x01" + len(noise).to_bytes(3, "big") + noise)):
            self.outcome(data)

    @settings(max_examples=300)
    @given(st.data())
    def test_mutations(self, data: st.DataObject) -> None:
        """A real hello with bytes changed: the same promise, and a name, if any, is always a sound one."""
        original = bytearray(self.real)
        for at in data.draw(st.lists(st.integers(0, len(original) - 1), min_size=1, max_size=4)):
            original[at] = data.draw(st.integers(0, 255))
        self.outcome(bytes(original))

    real = by_openssl(alpn=[b"h2"])

    def outcome(self, data: bytes) -> None:
        try:
            result = parse(data)
        except WireError as error:
            self.assertEqual(error.reply, ALERT_DECODE_ERROR)
            self.assertLessEqual(needed(data), len(data))
            return
        if result is None:
            self.assertGreater(needed(data), len(data))
        elif result.sni is not None:
            self.assertRegex(result.sni, r"\A[a-z0-9_.-]{1,253}\Z")


class FirstLook(SynchronousTestCase):
    """looks_like_tls and the alerts."""

    def test_looks_like_tls(self) -> None:
        """As much as is there must fit."""
        data = by_openssl()
        for cut in range(1, 20):
            self.assertTrue(looks_like_tls(data[:cut]))
        for other in (b"", b"G", b"\x16\x02", b"\x16\x03\x01\x00\x10\x02", b"\x80\x16"):
            self.assertFalse(looks_like_tls(other))

    def test_alerts_are_understood(self) -> None:
        """A real client that reads one of our alerts fails with its name."""
        for alert, name in (
            (clienthello.ALERT_UNRECOGNIZED_NAME, "unrecognized name"),
            (clienthello.ALERT_DECODE_ERROR, "decode error"),
            (clienthello.ALERT_INTERNAL_ERROR, "internal error"),
        ):
            connection = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), None)
            connection.set_connect_state()
            self.assertRaises(SSL.WantReadError, connection.do_handshake)
            connection.bio_write(alert)
            error = self.assertRaises(SSL.Error, connection.do_handshake)
            self.assertIn(name, str(error).replace("_", " "))

"""PROXY headers: both versions, cut at every byte, and the ways to get one wrong."""

from __future__ import annotations

import socket
import struct
import subprocess
import tempfile
from pathlib import Path

from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.errors import WireError
from dcrouter.wire.proxyheader import MAX_V1, MAX_V2, SIGNATURE, build_v1, build_v2, parse, speaking_for_ourselves
from dcrouter.wire.proxytlvs import CRC32C, Told, crc32c
from tests.support.peers import require

V4 = ("192.0.2.1", 50000), ("198.51.100.2", 443)
V6 = ("2001:db8::1", 1), ("2001:db8::ffff", 65535)
LONGEST_V1 = b"PROXY UNKNOWN" + b" ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff" * 2 + b" 65535 65535\r\n"


def v2(command: int, family: int, block: bytes) -> bytes:
    return SIGNATURE + struct.pack(">BBH", 0x20 | command, family, len(block)) + block


def tlv(kind: int, value: bytes) -> bytes:
    return struct.pack(">BH", kind, len(value)) + value


INET = socket.inet_aton("192.0.2.1") + socket.inet_aton("198.51.100.2") + struct.pack(">HH", 50000, 443)


def with_checksum(header: bytes, wrong: int = 0) -> bytes:
    """`header`, whose length already counts it, with a checksum TLV at its end."""
    blank = header + tlv(CRC32C, bytes(4))
    return header + tlv(CRC32C, struct.pack(">I", crc32c(blank) ^ wrong))


GOOD = {
    b"PROXY TCP4 192.0.2.1 198.51.100.2 50000 443\r\n": V4,
    b"PROXY TCP6 2001:DB8::1 2001:db8:0:0:0:0:0:ffff 1 65535\r\n": V6,
    b"PROXY TCP6 ::ffff:192.0.2.1 ::ffff:198.51.100.2 50000 443\r\n": V4,
    b"PROXY TCP4 0.0.0.0 255.255.255.255 0 0\r\n": (("0.0.0.0", 0), ("255.255.255.255", 0)),
    b"PROXY UNKNOWN\r\n": (None, None),
    b"PROXY UNKNOWN whatever it likes\r\n": (None, None),
    LONGEST_V1: (None, None),
    v2(1, 0x11, INET): V4,
    v2(1, 0x12, INET): V4,
    v2(1, 0x21, socket.inet_pton(socket.AF_INET6, "2001:db8::1") * 2 + b"\0\1\0\2"): (
        ("2001:db8::1", 1),
        ("2001:db8::1", 2),
    ),
    v2(1, 0x21, bytes(10) + b"\xff\xff\xc0\0\2\1" + bytes(10) + b"\xff\xff\xc6\x33\x64\2" + INET[8:]): V4,
    v2(1, 0x31, bytes(216)): (None, None),
    v2(1, 0x00, b""): (None, None),
    v2(1, 0x00, b"ignored"): (None, None),
    v2(0, 0x00, b""): (None, None),
    v2(0, 0x11, b"short"): (None, None),
    v2(1, 0x11, INET + tlv(4, bytes(MAX_V2 - 31))): V4,
}


class Good(SynchronousTestCase):
    """Headers that are taken."""

    def test_cut_at_every_byte(self) -> None:
        """A header says what it says once it is whole, whatever follows; before, more is wanted."""
        for header, (source, destination) in GOOD.items():
            for cut in range(len(header)) if len(header) < 1000 else (0, 15, 16, 27, 28, 100, len(header) - 1):
                self.assertIsNone(parse(header[:cut]), (header, cut))
            for behind in (b"", b"\x16\x03\x01", b"\r\n", header):
                found = parse(header + behind)
                assert found is not None
                self.assertEqual((found.source, found.destination, found.length), (source, destination, len(header)))

    def test_tlvs(self) -> None:
        """TLVs come out in order, with their values as they were."""
        tlvs = ((0x01, b"h2"), (0x02, b"example.com"), (0x04, b""), (0x05, bytes(range(128))), (0xE0, b""))
        block = INET + b"".join(tlv(kind, value) for kind, value in tlvs)
        found = parse(v2(1, 0x11, block))
        assert found is not None
        self.assertEqual(found.tlvs, tlvs)
        self.assertEqual(found.told, Told(alpn="h2", authority="example.com", unique_id=bytes(range(128))))

    def test_checksum(self) -> None:
        """A checksum is verified where it is present; the algorithm is Castagnoli's."""
        self.assertEqual(crc32c(b"123456789"), 0xE3069283)
        header = SIGNATURE + struct.pack(">BBH", 0x21, 0x11, 12 + 5 + 7) + INET + tlv(1, b"h2")
        found = parse(with_checksum(header))
        assert found is not None
        self.assertEqual(found.source, V4[0])
        self.assertRaises(WireError, parse, with_checksum(header, wrong=1))

    def test_haproxy_is_understood(self) -> None:
        """What HAProxy sends with send-proxy and send-proxy-v2 (checksum and unique id on) names its client."""
        program = require("haproxy")
        for option in ("send-proxy", "send-proxy-v2 proxy-v2-options crc32c,unique-id"):
            with socket.create_server(("127.0.0.1", 0)) as target, socket.create_server(("127.0.0.1", 0)) as front:
                target.settimeout(60)
                configuration = (
                    "defaults\n mode tcp\n timeout connect 60s\n timeout client 60s\n timeout server 60s\n"
                    f"frontend f\n bind fd@{front.fileno()}\n unique-id-format %[uuid()]\n default_backend b\n"
                    f"backend b\n server s 127.0.0.1:{target.getsockname()[1]} {option}\n"
                )
                with tempfile.TemporaryDirectory() as directory:
                    file = Path(directory, "haproxy.cfg")
                    file.write_text(configuration)
                    running = subprocess.Popen(
                        [program, "-db", "-q", "-f", str(file)],
                        pass_fds=[front.fileno()],
                        stdout=subprocess.DEVNULL,
                        stderr=subprocess.DEVNULL,
                    )
                    try:
                        with socket.create_connection(front.getsockname(), timeout=240) as client:
                            client.sendall(b"hello")
                            peer, _ = target.accept()
                            with peer:
                                peer.settimeout(60)
                                data = b""
                                while (found := parse(data)) is None or len(data) < found.length + 5:
                                    more = peer.recv(1)
                                    self.assertTrue(more, "haproxy went away")
                                    data += more
                            self.assertEqual(found.source, client.getsockname())
                            self.assertEqual(found.destination, front.getsockname())
                            self.assertEqual(data[found.length :], b"hello")
                            kinds = {kind for kind, _ in found.tlvs}
                            self.assertEqual(kinds, {CRC32C, 0x05} if "v2" in option else set())
                    finally:
                        running.kill()
                        running.wait()


class Refusals(SynchronousTestCase):
    """Headers that are refused, without a reply."""

    def refused(self, data: bytes) -> None:
        error = self.assertRaises(WireError, parse, data)
        self.assertIsNone(error.reply)

    def test_beginnings(self) -> None:
        """What cannot become a header any more is refused with the byte that shows it."""
        for good, bad in (
            (b"", b"G"),
            (b"", b"\x16"),
            (b"", b"p"),
            (b"P", b"r"),
            (b"PROXY", b"\t"),
            (b"PROXY ", b" "),
            (b"PROXY ", b"U "),
            (b"PROXY TCP", b"5"),
            (b"PROXY TCP4 ", b"a"),
            (b"PROXY TCP4", b"\n"),
            (b"PROXY TCP6 ", b"g"),
            (b"PROXY TCP4 1.2.3.4\r", b"x"),
            (b"PROXY UNKNOWN", b"x"),
            (b"PROXY UNKNOWN\r", b"x"),
            (b"\r\n", b"\n"),
            (SIGNATURE[:-1], b"\r"),
            (SIGNATURE, b"\x11"),
            (SIGNATURE, b"\x22"),
            (SIGNATURE + b"\x21", b"\x41"),
            (SIGNATURE + b"\x21", b"\x13"),
            (SIGNATURE + b"\x21\x11", b"\x00\x0b"),
            (SIGNATURE + b"\x21\x11", struct.pack(">H", MAX_V2 - 15)),
            (SIGNATURE + b"\x20\x00", b"\xff\xff"),
            (b"PROXY UNKNOWN " + b"x" * (MAX_V1 - 15), b"x"),
        ):
            self.assertIsNone(parse(good), good)
            self.refused(good + bad)

    def test_v1_lines(self) -> None:
        """Addresses that are none, ports that are not canonical, and every liberty with spaces and line ends."""
        for line in (
            b"PROXY\r\n",
            b"PROXY TCP4\r\n",
            b"PROXY TCP4 1.2.3.4 1.2.3.5 1 2\n",
            b"PROXY TCP4 1.2.3.4 1.2.3.5 1\r\n",
            b"PROXY TCP4 1.2.3.4 1.2.3.5 1 2 3\r\n",
            b"PROXY TCP4 1.2.3.4 1.2.3.5 1 2 \r\n",
            b"PROXY TCP4  1.2.3.4 1.2.3.5 1 2\r\n",
            b"PROXY TCP4 1.2.3.4 1.2.3.5 01 2\r\n",
            b"PROXY TCP4 1.2.3.4 1.2.3.5 1 65536\r\n",
            b"PROXY TCP4 1.2.3.4 1.2.3.5 -1 2\r\n",
            b"PROXY TCP4 1.2.3.4 1.2.3.256 1 2\r\n",
            b"PROXY TCP4 1.2.3 1.2.3.5 1 2\r\n",
            b"PROXY TCP4 01.2.3.4 1.2.3.5 1 2\r\n",
            b"PROXY TCP4 ::1 ::1 1 2\r\n",
            b"PROXY TCP6 1.2.3.4 1.2.3.5 1 2\r\n",
            b"PROXY TCP6 ::1 ::1::2 1 2\r\n",
            b"PROXY TCP6 fe80::1%lo ::1 1 2\r\n",
            b"PROXY TCP4 evil<script> 1.2.3.5 1 2\r\n",
            b"PROXY UDP4 1.2.3.4 1.2.3.5 1 2\r\n",
            b"PROXY UNKNOWN a\nb\r\n",
            b"PROXY UNKNOWN\rb\r\n",
            LONGEST_V1[:-2] + b"0\r\n",
        ):
            self.refused(line)

    def test_v2_blocks(self) -> None:
        """Blocks shorter than their addresses, TLVs that do not end where the header does, checksums that are none."""
        for block in (
            INET + b"\x01",
            INET + b"\x01\x00",
            INET + b"\x01\x00\x01",
            INET + tlv(1, b"abc")[:-1],
            INET + tlv(CRC32C, b"abc"),
            INET + tlv(CRC32C, b""),
            INET + tlv(CRC32C, bytes(4)) * 2,
        ):
            self.refused(v2(1, 0x11, block))
        self.refused(v2(1, 0x21, INET))
        self.refused(v2(1, 0x31, bytes(215)))

    def test_tlvs_that_break_their_form(self) -> None:
        """What is known must be as the format says; what is not known may be anything."""
        for bad in (
            tlv(0x02, b"\xff.example"),
            tlv(0x05, bytes(129)),
            tlv(0x20, bytes(4)),
            tlv(0x20, b"\x01" + bytes(4) + b"\x21\x00"),
            tlv(0x20, b"\x01" + bytes(4) + b"\x21\x00\x08TLSv1.3"),
            tlv(0x20, b"\x01" + bytes(4) + tlv(0x21, b"\xff")),
        ):
            self.refused(v2(1, 0x11, INET + bad))
        self.assertIsNotNone(parse(v2(1, 0x11, INET + tlv(0xEA, b"\xff" * 200) + tlv(0x30, b"ns"))))

    def test_a_certificate_is_believed_only_when_it_was_verified(self) -> None:
        """The SSL TLV's verify field is zero without meaning where no certificate was shown."""
        for client, verify, verified in ((1, 0, False), (3, 0, True), (5, 0, True), (3, 18, False), (2, 0, True)):
            value = struct.pack(">BL", client, verify) + tlv(0x22, b"alice")
            found = parse(v2(1, 0x11, INET + tlv(0x20, value)))
            assert found is not None
            self.assertEqual(found.told.client_verified, verified, (client, verify))
            self.assertEqual(found.told.client_name, "alice" if client & 6 else None)

    @settings(max_examples=300)
    @given(
        st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 ", b"PROXY TCP6 ", SIGNATURE, SIGNATURE + b"\x21\x11\x00"]),
        st.binary(),
    )
    def test_noise(self, start: bytes, noise: bytes) -> None:
        """Any bytes give a header, None or WireError; what is refused stays refused when more comes."""
        try:
            found = parse(start + noise)
        except WireError:
            self.assertRaises(WireError, parse, start + noise + b"\r\n")
            return
        if found is not None:
            self.assertLessEqual(found.length, len(start + noise))


addresses = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(
    lambda ip: str(getattr(ip, "ipv4_mapped", None) or ip)
)
ends = st.tuples(addresses, st.integers(0, 65535))
words = st.text(min_size=1, max_size=20)


@st.composite
def tellings(draw: st.DrawFn) -> Told:
    """What a proxy may know of a connection; of TLS all or nothing."""
    told = Told(
        authority=draw(st.none() | words),
        alpn=draw(st.none() | st.text(st.characters(max_codepoint=255), min_size=1, max_size=20)),
        unique_id=draw(st.none() | st.binary(max_size=128)),
    )
    if draw(st.booleans()):
        name = draw(st.none() | words)
        return evolve(
            told,
            tls_version=draw(words),
            cipher=draw(st.none() | words),
            client_name=name,
            client_verified=name is not None and draw(st.booleans()),
        )
    return told


class Written(SynchronousTestCase):
    """build_v1 and build_v2."""

    def test_bytes(self) -> None:
        """As in the specification's examples."""
        self.assertEqual(build_v1(*V4), b"PROXY TCP4 192.0.2.1 198.51.100.2 50000 443\r\n")
        self.assertEqual(build_v1(None, V4[1]), b"PROXY UNKNOWN\r\n")
        self.assertEqual(build_v2(*V4), with_checksum(v2(1, 0x11, INET + bytes(7))[:28]))
        self.assertEqual(build_v2(V4[0], None), v2(0, 0, b""))
        self.assertEqual(speaking_for_ourselves("v1"), b"PROXY UNKNOWN\r\n")
        self.assertEqual(speaking_for_ourselves("v2"), v2(0, 0, b""))

    def test_families(self) -> None:
        """Mapped addresses go as IPv4; an IPv4 end beside an IPv6 one is mapped; zones stay at home."""
        self.assertEqual(build_v1(("::ffff:192.0.2.1", 50000), V4[1]), build_v1(*V4))
        for build in (build_v1, build_v2):
            found = parse(build(V4[0], V6[1]))
            assert found is not None
            self.assertEqual((found.source, found.destination), (V4[0], V6[1]))
            found = parse(build(("fe80::1%eth0", 7), V6[1]))
            assert found is not None
            self.assertEqual(found.source, ("fe80::1", 7))

    def test_refusals(self) -> None:
        """No header is written that could not be read."""
        for build in (build_v1, build_v2):
            self.assertRaises(ValueError, build, ("host\r\n", 1), V4[1])
            self.assertRaises(ValueError, build, ("192.0.2.1", 65536), V4[1])

    def test_nothing_grows_beyond_what_is_read(self) -> None:
        """Names and ids that are too long for the format are left out: no header is larger than `parse` takes."""
        long = "x" * 256
        told = Told(authority=long, alpn=long, unique_id=bytes(129), tls_version=long, cipher=long, client_name=long)
        found = parse(build_v2(*V4, told))
        assert found is not None
        self.assertEqual(found.told, Told(tls_version="TLS"))
        full = Told(
            authority=long[1:],
            alpn=long[1:],
            unique_id=bytes(128),
            tls_version=long[1:],
            cipher=long[1:],
            client_name=long[1:],
        )
        self.assertLess(len(build_v2(*V4, full)), MAX_V2)

    @settings(max_examples=300)
    @given(tellings())
    def test_what_is_told_is_read_back(self, told: Told) -> None:
        """TLVs say what they were given, cut at every byte of the header, under a checksum that sees each bit."""
        header = build_v2(*V4, told)
        found = parse(header + b"more")
        assert found is not None
        self.assertEqual((found.told, found.length), (told, len(header)))
        for cut in range(len(header)):
            self.assertIsNone(parse(header[:cut]))
        for at in range(16, len(header)):
            broken = header[:at] + bytes((header[at] ^ 1,)) + header[at + 1 :]
            self.assertRaises(WireError, self.whole, broken)

    def whole(self, header: bytes) -> None:
        """WireError from `parse`; a header that lost its checksum, or its end, is none of ours."""
        found = parse(header)
        if found is None or CRC32C not in dict(found.tlvs):
            raise WireError("not what was sent")

    @settings(max_examples=300)
    @given(ends, ends)
    def test_round_trip(self, source: tuple[str, int], destination: tuple[str, int]) -> None:
        """What is written is read back, within the bound of v1."""
        for header in (build_v1(source, destination), build_v2(source, destination)):
            found = parse(header + b"more")
            assert found is not None
            self.assertEqual((found.source, found.destination, found.length), (source, destination, len(header)))
        self.assertLessEqual(len(build_v1(source, destination)), MAX_V1)

"""The scalars of routes.yaml."""

from __future__ import annotations

import contextlib
from ipaddress import ip_address, ip_network

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.config import units


class DurationTests(SynchronousTestCase):
    def test_units(self) -> None:
        """ms, s, m, h and d, fractions included."""
        written = {"250ms": 0.25, "5s": 5.0, "10m": 600.0, "4h": 14400.0, "5d": 432000.0, "0s": 0.0, "1.5h": 5400.0}
        for text, seconds in written.items():
            self.assertEqual(units.duration(text), seconds, text)

    def test_everything_else_is_refused(self) -> None:
        """No number without a unit, no sign, no space, no other unit, nothing longer than ten years."""
        for text in (
            "",
            "5",
            "5 s",
            "-5s",
            "+5s",
            "5S",
            "5w",
            "1h30m",
            "s",
            "5s\n",
            "\u0665s",
            "3651d",
            "9" * 20 + "d",
        ):
            self.assertRaises(ValueError, units.duration, text)

    def test_the_error_says_how(self) -> None:
        """A sentence that begins with the value."""
        error = self.assertRaises(ValueError, units.duration, "5")
        self.assertEqual(str(error), "'5' is not a duration: a number with ms, s, m, h or d, such as 250ms, 5s or 4h")

    @given(st.integers(0, 10**10))
    def test_what_is_written_is_read_again(self, milliseconds: int) -> None:
        """`written_duration` is the inverse."""
        seconds = milliseconds / 1000
        self.assertAlmostEqual(units.duration(units.written_duration(seconds)), seconds, places=3)

    @given(st.text())
    def test_any_text_is_a_duration_or_a_value_error(self, text: str) -> None:
        """Nothing else ever comes out."""
        with contextlib.suppress(ValueError):
            self.assertGreaterEqual(units.duration(text), 0)


class SizeTests(SynchronousTestCase):
    def test_units(self) -> None:
        """1024-based."""
        self.assertEqual(units.size("16KB"), 16384)
        self.assertEqual(units.size("50MB"), 50 * 1024 * 1024)
        self.assertEqual(units.size("1GB"), 1 << 30)
        self.assertEqual(units.size("7B"), 7)

    def test_everything_else_is_refused(self) -> None:
        """No number without a unit, no fraction, no other case."""
        for text in ("", "5", "5mb", "1.5MB", "5 MB", "-1B", "9" * 15 + "TB"):
            self.assertRaises(ValueError, units.size, text)

    @given(st.integers(0, 1 << 50))
    def test_what_is_written_is_read_again(self, count: int) -> None:
        """`written_size` is the inverse."""
        self.assertEqual(units.size(units.written_size(count)), count)


class AddressTests(SynchronousTestCase):
    def test_addresses_and_networks(self) -> None:
        """Both families; a single address is the network of itself."""
        self.assertEqual(units.address("::1"), ip_address("::1"))
        self.assertEqual(units.network("10.0.0.0/8"), ip_network("10.0.0.0/8"))
        self.assertEqual(units.network("192.0.2.1"), ip_network("192.0.2.1/32"))

    def test_host_bits_are_told_with_what_was_meant(self) -> None:
        """10.0.0.1/8 is a slip, not a network."""
        error = self.assertRaises(ValueError, units.network, "10.0.0.1/8")
        self.assertEqual(str(error), "'10.0.0.1/8' has bits set behind its prefix (did you mean '10.0.0.0/8'?)")

    def test_what_is_no_address(self) -> None:
        """With a hint where the slip is a usual one."""
        for text, hint in (("[::1]", "without brackets"), ("10.0.0.0/8", "not a network"), ("010.0.0.1", ""), ("", "")):
            error = self.assertRaises(ValueError, units.address, text)
            self.assertIn(hint, str(error))

    def test_zones_are_refused(self) -> None:
        """An address that means something else on every interface cannot be bound or compared."""
        for read in (units.address, units.network):
            self.assertIn("'fe80::1%lo' has a zone", str(self.assertRaises(ValueError, read, "fe80::1%lo")))
        self.assertIn("'fe80::1' is link-local", str(self.assertRaises(ValueError, units.address, "fe80::1")))

    def test_an_ipv4_address_written_as_ipv6_is_one(self) -> None:
        """Its socket would be one of IPv6 alone, which cannot be bound to it."""
        self.assertEqual(units.address("::ffff:127.0.0.1"), ip_address("127.0.0.1"))

    @given(st.ip_addresses().filter(lambda one: one.version == 4 or not (one.is_link_local or one.ipv4_mapped)))
    def test_every_address_is_read(self, address: object) -> None:
        """As `ipaddress` writes it."""
        self.assertEqual(units.address(str(address)), address)


class NumberTests(SynchronousTestCase):
    def test_ports(self) -> None:
        """1 to 65535, as numbers."""
        self.assertEqual(units.port(65535), 65535)
        for value in (0, 65536, -1, True, 80.0, "x", None):
            self.assertRaises(ValueError, units.port, value)

    def test_a_quoted_port_is_told_to_lose_its_quotes(self) -> None:
        """Text is not a number."""
        error = self.assertRaises(ValueError, units.port, "443")
        self.assertEqual(str(error), "'443' is not a port number (write it without quotes)")

    def test_shown_is_one_short_line(self) -> None:
        """However long the value, and whatever is in it."""
        self.assertEqual(units.shown("a\nb"), "'a\\nb'")
        self.assertLess(len(units.shown("x" * 10_000)), 80)

    def test_shown_has_no_password(self) -> None:
        """Who is logged in at a URL, and how, is nobody's to read in an error; a password may hold anything."""
        for text in ("https://ops:hunter2@ca.example/dir", "https://ops:hun@ter2@ca.example/dir", "ftp://hunter2@x"):
            self.assertNotIn("ter2", units.shown(text))
        self.assertEqual(units.shown("https://ops:pw@ca.example/dir"), "'https://...@ca.example/dir'")
        self.assertEqual(units.shown("ops:pw@ca.example:80"), "'...@ca.example:80'")
        for harmless in ("mailto:ops@example.com", "re:(ops@example.com", "ops@example.com", "/a:b@c"):
            self.assertEqual(units.shown(harmless), repr(harmless))

    def test_shown_has_no_key(self) -> None:
        """Letters and digits without a break, or letters alone that are too many for a word."""
        self.assertEqual(units.shown("abcdefghijkl7mnopqrstuvwx2.example.com"), "'....example.com'")
        self.assertEqual(units.shown("abcdefghijklmnopqrstuvwxyz.example.com"), "'....example.com'")
        self.assertEqual(units.shown("internationalisation.example.com"), "'internationalisation.example.com'")

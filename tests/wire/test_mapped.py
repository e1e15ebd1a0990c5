"""IPv4 addresses that are written as IPv6."""

from __future__ import annotations

from ipaddress import IPv6Address

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.wire.mapped import unmapped


class Unmapped(SynchronousTestCase):
    """unmapped."""

    def test_every_spelling(self) -> None:
        """Dotted, hexadecimal, unabridged, in capitals, with a zone."""
        for text in (
            "::ffff:192.0.2.1",
            "::FFFF:192.0.2.1",
            "::ffff:c000:201",
            "0:0:0:0:0:ffff:c000:0201",
            "0000:0000:0000:0000:0000:ffff:192.0.2.1",
            "::ffff:192.0.2.1%eth0",
        ):
            self.assertEqual(unmapped(text), "192.0.2.1", text)

    def test_all_else_stays(self) -> None:
        """What only looks mapped (`::ffff:0:a.b.c.d`, `::a.b.c.d`), other addresses, and what is no address."""
        for text in (
            "192.0.2.1",
            "::ffff:0:102:304",
            "::ffff:0:1.2.3.4",
            "::192.0.2.1",
            "::1",
            "::",
            "2001:db8::ffff:192.0.2.1",
            "fe80::1%eth0",
            "::ffff:300.0.2.1x",
            "::ffff:",
            "0.0.0.0",
            "",
            "host",
        ):
            self.assertEqual(unmapped(text), text)

    @given(st.ip_addresses(v=6))
    def test_it_is_what_the_library_says(self, address: IPv6Address) -> None:
        """For any IPv6 address."""
        self.assertEqual(unmapped(str(address)), str(address.ipv4_mapped or address))

    @given(st.ip_addresses(v=4))
    def test_a_socket_s_spelling(self, address: object) -> None:
        """Any IPv4 address comes out of its mapped form."""
        self.assertEqual(unmapped(f"::ffff:{address}"), str(address))

"""Which networks an address is in."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.match.addresses import Networks, count_key

V4 = st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 32)).map(
    lambda pair: IPv4Network((pair[0] >> (32 - pair[1]) << (32 - pair[1]), pair[1]))
)
V6 = st.tuples(st.integers(0, 2**128 - 1), st.integers(0, 128)).map(
    lambda pair: IPv6Network((pair[0] >> (128 - pair[1]) << (128 - pair[1]), pair[1]))
)


class NetworksTests(SynchronousTestCase):
    @given(st.lists(V4 | V6, max_size=5), st.ip_addresses())
    def test_covers_what_ipaddress_covers(
        self, networks: list[IPv4Network | IPv6Network], other: IPv4Address | IPv6Address
    ) -> None:
        """For addresses anywhere, and for those at both ends of each network."""
        plain = [network for network in networks if not is_mapped(network)]
        covered = Networks(plain)
        ends = [end for network in plain for end in (network.network_address, network.broadcast_address)]
        for address in (other, *ends):
            if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
                continue
            expected = any(address in network for network in plain if network.version == address.version)
            self.assertEqual(covered.covers(str(address)), expected, address)

    def test_a_mapped_address_is_its_ipv4_address(self) -> None:
        """In what is asked, and in what was written."""
        self.assertTrue(Networks([ip_network("10.0.0.0/8")]).covers("::ffff:10.1.2.3"))
        self.assertTrue(Networks([ip_network("::ffff:10.0.0.0/104")]).covers("10.1.2.3"))
        self.assertFalse(Networks([ip_network("::/0")]).covers("::ffff:10.1.2.3"))
        self.assertFalse(Networks([ip_network("0.0.0.0/0")]).covers("::1"))

    def test_everything_and_nothing(self) -> None:
        """The widest network and the empty set."""
        self.assertTrue(Networks([ip_network("0.0.0.0/0")]).covers("255.255.255.255"))
        self.assertTrue(Networks([ip_network("::/0")]).covers("::"))
        self.assertFalse(Networks([]).covers("192.0.2.1"))

    def test_a_zone_is_passed_over(self) -> None:
        """Link-local peers have one."""
        self.assertTrue(Networks([ip_network("fe80::/10")]).covers("fe80::1%eth0"))

    def test_what_is_no_address_is_refused(self) -> None:
        """Rather than let through by a block list."""
        for text in ("", "x", "1.2.3", "010.0.0.1", "1.2.3.4.5", "::g", "[::1]"):
            self.assertRaises(ValueError, Networks([ip_network("0.0.0.0/0")]).covers, text)


class CountKeyTests(SynchronousTestCase):
    def test_who_is_counted(self) -> None:
        """IPv4 whole, mapped IPv4 as IPv4, IPv6 by /64."""
        self.assertEqual(count_key("192.0.2.1"), "192.0.2.1")
        self.assertEqual(count_key("::ffff:192.0.2.1"), "192.0.2.1")
        self.assertEqual(count_key("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::/64")
        self.assertEqual(count_key("2001:db8:1:2::1%eth0"), count_key("2001:DB8:1:2:ffff::"))
        self.assertNotEqual(count_key("2001:db8:1:2::1"), count_key("2001:db8:1:3::1"))
        self.assertRaises(ValueError, count_key, "nobody")


def is_mapped(network: IPv4Network | IPv6Network) -> bool:
    """Whether it is an IPv4 network written as IPv6."""
    return network.version == 6 and network.prefixlen >= 96 and int(network.network_address) >> 32 == 0xFFFF

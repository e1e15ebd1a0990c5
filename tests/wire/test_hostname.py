"""Host names in their one form."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dcrouter.wire.hostname import host_name


class HostName(SynchronousTestCase):
    """host_name."""

    def test_one_form(self) -> None:
        """Lower case, without the final dot."""
        self.assertEqual(host_name(b"WWW.Example.COM."), "www.example.com")
        self.assertEqual(host_name(b"a" * 63), "a" * 63)

    def test_no_names(self) -> None:
        """What DNS cannot hold, and what would break a log line or a header, is none."""
        for raw in (b"", b".", b"a..b", b"a.b..", b"a b", b"a\n", b"a\0", b"\xe4", b"a:1", b"[::1]", b"a" * 64, b"*.a"):
            self.assertRaises(ValueError, host_name, raw)
        longest = b".".join([b"a" * 63] * 3 + [b"b" * 61])
        self.assertEqual(host_name(longest + b"."), longest.decode())
        self.assertRaises(ValueError, host_name, longest + b"b")

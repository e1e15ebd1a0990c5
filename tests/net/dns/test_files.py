"""resolv.conf and hosts as the system writes them, and as people do."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from dcrouter.net.dns.files import LOOK_AGAIN, ResolvConf, Watched, parse_hosts, parse_resolv_conf


class ParseTests(SynchronousTestCase):
    def test_resolv_conf(self) -> None:
        """Servers once each, the last search, ndots; comments, nonsense and other options are passed over."""
        text = """# made by hand
; nameserver 192.0.2.1
nameserver 192.0.2.53
nameserver 192.0.2.53
nameserver fe80::1%eth0
nameserver dns.example
nameserver
domain old.test
search One.test. two.test a b c d e f
options timeout:1 ndots:5 trust-ad ndots:x
"""
        self.assertEqual(
            parse_resolv_conf(text),
            ResolvConf(("192.0.2.53", "fe80::1%eth0"), ("one.test", "two.test", "a", "b", "c", "d"), 5),
        )
        self.assertEqual(parse_resolv_conf(""), ResolvConf(("127.0.0.1",)))
        self.assertEqual(parse_resolv_conf("options ndots:99").ndots, 15)

    def test_hosts(self) -> None:
        """All names of a line, in lower case; several addresses of a name in the order of the file."""
        text = "127.0.0.1\tlocalhost Me.Test. # me\n::1 localhost\n# 1.2.3.4 x\nnonsense x\n10.0.0.1\n"
        text += "127.0.0.1 localhost\n"
        self.assertEqual(parse_hosts(text), {"localhost": ("127.0.0.1", "::1"), "me.test": ("127.0.0.1",)})


class WatchedTests(SynchronousTestCase):
    def test_a_file_is_read_again_when_it_has_changed(self) -> None:
        """Absent, there, changed, replaced, gone; and not looked at more often than every LOOK_AGAIN seconds."""
        clock, parsed = [0.0], list[str]()
        path = Path(self.mktemp())

        def parse(text: str) -> str:
            parsed.append(text)
            return text

        watched = Watched(path, parse, lambda: clock[0])

        def later() -> str:
            clock[0] += LOOK_AGAIN
            return watched.get()

        self.assertEqual(later(), "")
        path.write_text("one")
        self.assertEqual(watched.get(), "")
        self.assertEqual(later(), "one")
        count = len(parsed)
        self.assertEqual([later(), later()], ["one", "one"])
        self.assertEqual(len(parsed), count)
        new = path.with_suffix(".new")
        new.write_text("two")
        os.replace(new, path)
        self.assertEqual(later(), "two")
        path.unlink()
        self.assertEqual(later(), "")
        path.write_bytes(b"\xff")
        self.assertEqual(later(), "\ufffd")

"""MTA-STS records and policies, RFC 8461."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.errors import WireError
from dcrouter.wire.mtasts import LARGEST, LONGEST, Policy, parse, policy_id

WRITTEN = b"version: STSv1\r\nmode: enforce\r\nmx: mail.example.com\r\nmx: *.Example.net\r\nmax_age: 604800\r\n"


class RecordTests(SynchronousTestCase):
    def test_the_id_is_found(self) -> None:
        """RFC 8461 3.1: among other records, with fields that are unknown."""
        self.assertEqual(policy_id(["v=spf1 -all", "v=STSv1; id=20160831085700Z;"]), "20160831085700Z")
        self.assertEqual(policy_id(["v=STSv1;x=y; id=1"]), "1")

    def test_what_is_no_announcement(self) -> None:
        """RFC 8461 3.1: two records, another version, no id or one that is none."""
        two = ["v=STSv1; id=1;", "v=STSv1; id=2;"]
        for texts in ([], two, ["v=STSv2; id=1"], ["v=STSv1;"], ["v=STSv1; id=a-b"], [f"v=STSv1; id={'a' * 33}"]):
            self.assertIsNone(policy_id(texts), texts)


class PolicyTests(SynchronousTestCase):
    def test_a_policy_is_read(self) -> None:
        """RFC 8461 3.2: with CRLF or LF, keys that are unknown passed over."""
        expected = Policy(mode="enforce", max_age=604800, mx=("mail.example.com", "*.example.net"))
        self.assertEqual(parse(WRITTEN), expected)
        self.assertEqual(parse(WRITTEN.replace(b"\r\n", b"\n") + b"colour: blue\n\n"), expected)

    def test_what_is_written_is_read_again(self) -> None:
        """A policy's lines are a policy."""
        policy = parse(WRITTEN)
        self.assertEqual(parse("\n".join(policy.lines).encode()), policy)

    def test_what_is_void(self) -> None:
        """RFC 8461 3.2: one thing wrong, and there is no policy."""
        for wrong in (
            WRITTEN.replace(b"STSv1", b"STSv2"),
            WRITTEN.replace(b"enforce", b"forced"),
            WRITTEN.replace(b"max_age: 604800", b"max_age: -1"),
            WRITTEN.replace(b"max_age: 604800\r\n", b""),
            WRITTEN.replace(b"mail.example.com", b"mail example"),
            WRITTEN.replace(b"mail.example.com", b"a.*.example.com"),
            b"version: STSv1\nmode: enforce\nmax_age: 1\n",
            b"version: STSv1\nmode enforce\n",
            b"version: STSv1\nmode: none\nmax_age: 1\n\xff",
            b" " * (LARGEST + 1),
            b"",
        ):
            self.assertRaises(WireError, parse, wrong)

    def test_no_policy_needs_no_hosts(self) -> None:
        """RFC 8461 3.2: `mode: none` takes a policy back, for at most a year."""
        self.assertEqual(
            parse(b"version: STSv1\nmode: none\nmax_age: 9999999999\n"), Policy(mode="none", max_age=LONGEST, mx=())
        )

    def test_hosts_that_are_covered(self) -> None:
        """RFC 8461 4.1: a wildcard is for one label, and for no fewer."""
        policy = parse(WRITTEN)
        for host in ("mail.example.com", "MAIL.example.com.", "mx1.example.net"):
            self.assertTrue(policy.covers(host), host)
        for host in ("example.net", "a.mx1.example.net", "mail.example.org", "com", ""):
            self.assertFalse(policy.covers(host), host)

    @given(st.binary(max_size=300))
    def test_anything_is_a_policy_or_an_error(self, octets: bytes) -> None:
        """No octets break the parser."""
        for text in (octets, WRITTEN[:40] + octets):
            try:
                parse(text)
            except WireError:
                continue

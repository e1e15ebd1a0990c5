"""What clients say by OAUTHBEARER and XOAUTH2, by the examples of their documents, and noise."""

from __future__ import annotations

import json
from base64 import b64decode

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.errors import WireError
from dcrouter.wire.bearer import OAUTHBEARER, XOAUTH2, Token, read, refusal


class BearerTests(SynchronousTestCase):
    def test_the_example_of_rfc_7628(self) -> None:
        """Section 4.1: SMTP's, as it stands there."""
        said = b64decode(
            "bixhPXVzZXJAZXhhbXBsZS5jb20sAWhvc3Q9c2VydmVyLmV4YW1wbGUuY29tAXBvcnQ9NTg3AWF1dGg9QmVhcmVyIHZGOWRmd"
            "DRxbVRjMk52YjNSbGNrQmhiSFJoZG1semRHRXVZMjl0Q2c9PQEB"
        )
        self.assertEqual(
            read(OAUTHBEARER, said),
            Token(account="user@example.com", token="vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg=="),
        )

    def test_google_s_example(self) -> None:
        """user, ^A, auth=Bearer, ^A^A."""
        said = b"user=someuser@example.com\x01auth=Bearer ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg\x01\x01"
        self.assertEqual(read(XOAUTH2, said).account, "someuser@example.com")

    def test_a_name_may_be_missing(self) -> None:
        """RFC 7628 3.1: a= is optional, and y means what n does; XOAUTH2 has one always."""
        for head in (b"n,,", b"y,,", b"n,a=,"):
            self.assertEqual(read(OAUTHBEARER, head + b"\x01auth=Bearer abc\x01\x01"), Token(account="", token="abc"))
        self.assertEqual(read(OAUTHBEARER, b"n,a=x=2Cy=3D,\x01auth=bearer abc\x01\x01").account, "x,y=")

    def test_malformed_ones(self) -> None:
        """501, and nothing of the token in the error."""
        for mechanism, said in (
            (OAUTHBEARER, b""),
            (OAUTHBEARER, b"\x01"),
            (OAUTHBEARER, b"n,,\x01auth=Bearer geheim\x01"),
            (OAUTHBEARER, b"n,,\x01auth=Bearer geheim"),
            (OAUTHBEARER, b"p=tls-unique,,\x01auth=Bearer geheim\x01\x01"),
            (OAUTHBEARER, b"n,a=x=y,\x01auth=Bearer geheim\x01\x01"),
            (OAUTHBEARER, b"n,,\x01auth=Basic geheim\x01\x01"),
            (OAUTHBEARER, b"n,,\x01auth=Bearer ge heim\x01\x01"),
            (OAUTHBEARER, b"n,,\x01auth=Bearer geheim\x01auth=Bearer geheim\x01\x01"),
            (OAUTHBEARER, b"n,,\x01host=x\x01\x01"),
            (OAUTHBEARER, b"n,,\x01auth=Bearer \x01\x01"),
            (OAUTHBEARER, b"n,,\x01auth=Bearer geheim\x00\x01\x01"),
            (OAUTHBEARER, b"n,,\x01auth=Bearer geheim\xff\x01\x01"),
            (XOAUTH2, b"auth=Bearer geheim\x01\x01"),
            (XOAUTH2, b"user=\x01auth=Bearer geheim\x01\x01"),
        ):
            error = self.assertRaises(WireError, read, mechanism, said)
            self.assertEqual((error.reply or b"")[:9], b"501 5.5.2")
            self.assertNotIn("geheim", str(error))
            self.assertIsNone(error.__cause__)

    def test_a_token_is_not_shown(self) -> None:
        """It is as good as a password."""
        self.assertNotIn("geheim", repr(Token(account="a", token="geheim")))

    def test_refusals(self) -> None:
        """RFC 7628 3.2.2 and Google: JSON with a status."""
        self.assertEqual(json.loads(refusal(OAUTHBEARER))["status"], "invalid_token")
        self.assertEqual(json.loads(refusal(XOAUTH2))["status"], "401")

    @given(st.sampled_from((OAUTHBEARER, XOAUTH2)), st.binary(max_size=60))
    def test_no_octets_break_it(self, mechanism: str, said: bytes) -> None:
        """A token, or WireError with a reply."""
        try:
            read(mechanism, said)
        except WireError as error:
            self.assertIsNotNone(error.reply)

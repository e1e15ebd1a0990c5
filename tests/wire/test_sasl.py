"""SASL PLAIN and LOGIN, as dialogues and as noise."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dcrouter.errors import WireError
from dcrouter.wire.sasl import (
    Credentials,
    Exchange,
    decode,
    encode,
    prepare_account,
    prepare_password,
)


class ExchangeTests(SynchronousTestCase):
    def test_plain_with_and_without_an_initial_response(self) -> None:
        """RFC 4616: an empty challenge, or none at all."""
        expected = Credentials(account="a@x.example", password="p w", authorize_as="b")
        self.assertEqual(Exchange("PLAIN").receive(b"b\0a@x.example\0p w"), expected)
        exchange = Exchange("PLAIN")
        self.assertEqual(exchange.receive(None), b"")
        self.assertEqual(exchange.receive(b"b\0a@x.example\0p w"), expected)

    def test_login_asks_for_what_it_has_not(self) -> None:
        """Name and password; the name may come at once."""
        exchange = Exchange("LOGIN")
        self.assertEqual(exchange.receive(None), b"Username:")
        self.assertEqual(exchange.receive(b"a"), b"Password:")
        self.assertEqual(exchange.receive("p\u00e4ss".encode()), Credentials(account="a", password="p\u00e4ss"))
        exchange = Exchange("LOGIN")
        self.assertEqual(exchange.receive(b"a"), b"Password:")

    def test_malformed_responses_are_no_credentials(self) -> None:
        """Too few or too many NULs, NUL in LOGIN, octets beyond UTF-8: 501, and the error repeats nothing of them."""
        for mechanism, response in (
            ("PLAIN", b""),
            ("PLAIN", b"a\0secret"),
            ("PLAIN", b"\0a\0secret\0x"),
            ("PLAIN", b"\0a\0secret\xff"),
            ("LOGIN", b"secret\0"),
            ("LOGIN", b"secret\xff"),
        ):
            error = self.assertRaises(WireError, Exchange(mechanism).receive, response)
            self.assertEqual((error.reply or b"")[:9], b"501 5.5.2")
            self.assertNotIn("secret", str(error))
            self.assertIsNone(error.__cause__)

    def test_credentials_do_not_show_the_password(self) -> None:
        """Neither repr nor str: they end in tracebacks and logs."""
        shown = f"{Credentials(account='a', password='secret')!r}"
        self.assertIn("'a'", shown)
        self.assertNotIn("secret", shown)

    def test_base64_is_strict(self) -> None:
        """Padding, alphabet and what follows are right, or it is 501 5.5.2."""
        self.assertEqual(decode("AGEAYg=="), b"\0a\0b")
        self.assertEqual(encode(b"x" * 100).count(b"\n"), 0)
        for text in (
            "AGEAYg",
            "AGEAYg=",
            "AGEA Yg==",
            "AGEAYg==AGEA",
            "AGEA=",
            "AGEA====",
            "AGEAYh==",
            "A",
            "*",
            "\u00e4",
            "AGE_AA==",
            "====",
        ):
            error = self.assertRaises(WireError, decode, text)
            self.assertEqual(error.reply, b"501 5.5.2 Bad base64")

    @given(st.sampled_from(["PLAIN", "LOGIN"]), st.lists(st.binary(max_size=40), max_size=3))
    def test_no_octets_break_it(self, mechanism: str, responses: list[bytes]) -> None:
        """A challenge, credentials, or WireError with a reply."""
        exchange = Exchange(mechanism)
        for response in responses:
            try:
                if isinstance(exchange.receive(response), Credentials):
                    break
            except WireError as error:
                self.assertIsNotNone(error.reply)
                break


class PreparationTests(SynchronousTestCase):
    def test_a_password_has_one_form(self) -> None:
        """Composed or not, with whatever space: one and the same; case counts."""
        self.assertEqual(prepare_password("pa\u0308ss\u00a0x"), prepare_password("p\u00e4ss x"))
        self.assertNotEqual(prepare_password("Secret"), prepare_password("secret"))

    def test_an_account_is_named_without_case(self) -> None:
        """As mail addresses are, in any script."""
        self.assertEqual(prepare_account("Alice@Example.COM"), "alice@example.com")
        self.assertEqual(prepare_account("JU\u0308RGEN"), prepare_account("j\u00fcrgen"))

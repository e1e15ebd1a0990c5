"""What submission adds to a header, and whose addresses may stand in it."""

from __future__ import annotations

from email import message_from_bytes
from email.utils import parsedate_to_datetime

from twisted.trial.unittest import SynchronousTestCase

from dcrouter.config.accounts import User as ConfiguredUser
from dcrouter.errors import Refused
from dcrouter.mail.server.submission import complete, refused_sender
from dcrouter.mail.server.users import User, Users
from tests.mail.server.accounts import HASHES

FROM = b"From: Alice <alice@x.example>\r\n"
NOW = 1795251600.25


def account(*may_send_as: str) -> User:
    configured = ConfiguredUser(
        name="alice@x.example", password_hash=HASHES["secret"], may_send_as=may_send_as or ("alice@x.example",)
    )
    user = Users([configured]).find("alice@x.example")
    assert user is not None
    return user


def completed(head: bytes, user: User | None) -> bytes:
    return complete(head, user, name="1f", hostname="mx.example", now=NOW)


class AdditionTests(SynchronousTestCase):
    def test_date_and_message_id_are_added_where_they_lack(self) -> None:
        """Each on its own, in any spelling of what is there; and nothing else."""
        both = completed(FROM, account())
        message = message_from_bytes(both + FROM)
        self.assertEqual(message.keys(), ["Date", "Message-ID", "From"])
        self.assertEqual(parsedate_to_datetime(message["Date"]).timestamp(), int(NOW))
        self.assertEqual(message["Message-ID"], "<1f@mx.example>")
        self.assertEqual(completed(FROM + b"date : x\r\nMESSAGE-ID: y\r\n", account()), b"")
        self.assertEqual(completed(FROM + b"Date: x\r\n", account()), b"Message-ID: <1f@mx.example>\r\n")
        self.assertTrue(completed(FROM + b"Message-ID: y\r\n", account()).startswith(b"Date: "))
        self.assertEqual(completed(FROM + b"X-Date: x\r\n X: y\r\n", account()), both)

    def test_a_client_without_an_account_is_not_asked_for_its_addresses(self) -> None:
        """Whom the operator trusts may send as anybody, and without From."""
        self.assertEqual(completed(b"Date: x\r\nMessage-ID: y\r\n", None), b"")
        self.assertEqual(completed(b"From: Kyocera\r\nDate: x\r\nMessage-ID: y\r\n", None), b"")


class AuthorTests(SynchronousTestCase):
    def test_every_author_must_be_the_accounts_own(self) -> None:
        """In From and in Sender, each address of them, hidden as it may be."""
        for head in (
            b"From: bob@x.example\r\n",
            b"From: alice@x.example, bob@x.example\r\n",
            b"From: Us: alice@x.example, Bob <bob@x.example>;\r\n",
            b"From: bob@x.example <alice@x.example>\r\n",
            b"From: alice@x.example.evil.example\r\n",
            b"from :\r\n\tbob@x.example\r\n",
            FROM + b"Sender: bob@x.example\r\n",
        ):
            with self.subTest(head=head):
                error = self.assertRaises(Refused, completed, head, account())
                self.assertEqual((error.reply or b"")[:9], b"550 5.7.1")

    def test_from_is_there_once_and_can_be_read(self) -> None:
        """None, two, an empty one, one that two readers would read differently: 550 5.6.0."""
        for head in (
            b"",
            b"Subject: x\r\n",
            b"X-From: alice@x.example\r\n",
            FROM + FROM,
            FROM + b"FROM : bob@x.example\r\n",
            b"From: a line that is no field follows\r\nFrom nobody\r\n" + FROM,
            b"From:\r\n",
            b"From: undisclosed:;\r\n",
            b"From: Alice\r\n",
            b"From: <alice@x.example> <bob@x.example>\r\n",
            b"From: <alice@x.example\r\n",
            FROM + b"Sender: nobody\r\n",
            FROM + b"Sender: alice@x.example\r\nSender: bob@x.example\r\n",
        ):
            with self.subTest(head=head):
                error = self.assertRaises(Refused, completed, head, account())
                self.assertEqual((error.reply or b"")[:9], b"550 5.6.0")
                self.assertEqual((error.reply or b"").count(b"\r\n"), 1)

    def test_what_is_there_once_at_most(self) -> None:
        """RFC 5322 3.6: of an account; what a trusted client sends is passed on as it is."""
        for field in (b"Date: x\r\n", b"Message-ID: <a@b>\r\n", b"Sender: alice@x.example\r\n"):
            with self.subTest(field=field):
                completed(FROM + field, account())
                error = self.assertRaises(Refused, completed, field + FROM + field.upper(), account())
                words = b"550 5.6.0 A message has one " + field.partition(b":")[0] + b" field\r\n"
                self.assertEqual(error.reply, words)
                completed(field + FROM + field, None)

    def test_patterns_say_who_one_may_be(self) -> None:
        """A whole domain, in any case."""
        user = account("*@x.example", "sales@y.example")
        for address in (b"Bob <BOB@X.example>", b"sales@y.example, c@x.example", b'"b b"@x.example'):
            completed(b"From: " + address + b"\r\n", user)
        self.assertRaises(Refused, completed, b"From: a@y.example\r\n", user)

    def test_the_envelope_sender_is_the_accounts_own_too(self) -> None:
        """553 5.7.1; the null sender is for receipts, whoever sends them."""
        self.assertIsNone(refused_sender(account(), "Alice@x.example"))
        self.assertIsNone(refused_sender(account(), ""))
        self.assertEqual((refused_sender(account(), "bob@x.example") or b"")[:9], b"553 5.7.1")

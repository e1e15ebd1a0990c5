"""Maildirs: safe paths for whatever a client calls a recipient, and files that are whole or absent."""

from __future__ import annotations

import shutil
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase, TestCase

from dcrouter.mail.delivery.maildir import Delivery, encoded, maildir_path
from dcrouter.mail.envelope import Envelope
from dcrouter.mail.message import Message
from tests.mail.house import House, dialogue, in_thread
from tests.support.facts import until

STATE = Path("/var/lib/dcrouter")
MESSAGE = Message(
    id=0x1234,
    envelope=Envelope(session="s", sender="a@x.test", recipients=()),
    received=1000.5,
    size=1,
    eightbit=False,
)


class PathTests(SynchronousTestCase):
    def test_parts_are_encoded(self) -> None:
        """A slash, a dot in front, a NUL or a space is never a name's own."""
        for part, name in (
            ("joe", "joe"),
            ("Joe.Smith+tag", "joe.smith+tag"),
            ("a/b", "a%2Fb"),
            ("../../x", "%2E.%2F..%2Fx"),
            ("..", "%2E."),
            (".", "%2E"),
            ("", "%"),
            ("a\0b", "a%00b"),
            ("a b", "a%20b"),
            ("~root", "~root"),
            ("%2e", "%252e"),
        ):
            self.assertEqual(encoded(part), name)

    def test_templates_are_filled(self) -> None:
        """{recipient}, {local} and {domain}, under the state directory or where the operator says."""
        address = "Joe@Example.test"
        self.assertEqual(maildir_path("maildir/{recipient}", address, STATE), STATE / "maildir/joe@example.test")
        self.assertEqual(maildir_path("/srv/{domain}/{local}", address, STATE), Path("/srv/example.test/joe"))
        self.assertEqual(maildir_path("m/{local}", '"{domain}"@d.test', STATE), STATE / "m/%7Bdomain%7D")

    @given(st.text(max_size=300))
    def test_every_part_is_one_name(self, part: str) -> None:
        """Of one directory, and short enough for every file system."""
        name = encoded(part)
        self.assertTrue(0 < len(name.encode()) <= 120)
        self.assertFalse(name.startswith(".") or "/" in name or "\0" in name)

    def test_long_parts_stay_apart(self) -> None:
        """What is cut keeps a digest of the whole."""
        self.assertNotEqual(encoded("x" * 300), encoded("x" * 301))


class DeliveryTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()

    def delivery(self, **changes: object) -> Delivery:
        values = {
            "message": MESSAGE,
            "octets": b"Subject: x\r\n\r\ny\r\n",
            "address": "b@local.test",
            "number": 0,
            "directory": self.directory,
            "hostname": "mail.test",
            **changes,
        }
        return Delivery(**values)  # type: ignore[arg-type]

    def test_the_same_delivery_again_replaces_itself(self) -> None:
        """After a crash between delivery and settling there is still one file."""
        first, second = self.delivery().write(), self.delivery().write()
        self.assertEqual(first, second)
        self.assertEqual(len(list((self.directory / "new").iterdir())), 1)
        self.assertEqual(list((self.directory / "tmp").iterdir()), [])
        self.assertEqual(first.stat().st_mode & 0o777, 0o600)
        self.assertEqual((self.directory / "new").stat().st_mode & 0o777, 0o700)

    def test_a_spool_file_is_copied_whole(self) -> None:
        """With LF line ends, wherever its pieces are cut."""
        source = self.directory.with_suffix(".eml")
        source.write_bytes(b"x" * (256 * 1024 - 1) + b"\r\n" + b"end\r\n" * 100000)
        path = self.delivery(octets=None, source=source).write()
        head, _, content = path.read_bytes().partition(b"\nx")
        self.assertEqual(b"x" + content, source.read_bytes().replace(b"\r\n", b"\n"))
        self.assertEqual(head, b"Return-Path: <a@x.test>\nDelivered-To: b@local.test")

    def test_only_its_owner_sees_into_a_maildir(self) -> None:
        """Neither mail nor how much of it there is."""
        self.delivery().write()
        for directory in (self.directory, self.directory / "new"):
            self.assertEqual(directory.stat().st_mode & 0o777, 0o700)

    def test_what_somebody_has_removed_is_made_again(self) -> None:
        """All of a Maildir that was there before, or a part of it."""
        for part in ("", "tmp", "new", "cur"):
            self.delivery().write()
            shutil.rmtree(self.directory / part)
            self.assertTrue(self.delivery().write().is_file(), part)
        self.assertEqual(list((self.directory / "tmp").iterdir()), [])

    def test_what_cannot_be_written_leaves_nothing(self) -> None:
        """OSError, and no file in new/ or tmp/."""
        self.delivery().write()
        (self.directory / "new").rename(self.directory / "old")
        (self.directory / "new").touch()
        self.assertRaises(OSError, self.delivery().write)
        self.assertEqual(list((self.directory / "tmp").iterdir()), [])


class ClientTests(TestCase):
    async def test_recipients_with_unsafe_names_stay_below_the_maildir(self) -> None:
        """Accepted ones are directories right under maildir/; the others are refused; nothing appears elsewhere."""
        house = House(self)
        port = house.listen()
        forms = [
            '"../../x"@local.test',
            "a/b@local.test",
            f"{'l' * 64}@local.test",
            '".."@local.test',
            '"a\0b"@local.test',
            f"{'l' * 65}@local.test",
            "../../x@local.test",
        ]
        accepted = 0
        for form in forms:
            replies = await in_thread(dialogue, port, "EHLO c", "MAIL FROM:<>", f"RCPT TO:<{form}>".encode() + b"\r\n")
            if replies[-1][:3] == b"250":
                accepted += 1
                await in_thread(
                    dialogue, port, "EHLO c", "MAIL FROM:<>", f"RCPT TO:<{form}>", "DATA", b"Subject: x\r\n\r\n.\r\n"
                )
        self.assertEqual(accepted, 4)
        await until(lambda: house.mta.status()["delivered"] == accepted)
        names = sorted(path.name for path in (house.state / "maildir").iterdir())
        self.assertEqual(
            names,
            ["%2E.%2F..%2Fx@local.test", "%2E.@local.test", "a%2Fb@local.test", f"{'l' * 64}@local.test"],
        )
        self.assertEqual(sorted(path.name for path in house.state.iterdir()), ["internal-ca", "mail", "maildir"])

"""Accounts and recipients in files of their own."""

from __future__ import annotations

import os
from pathlib import Path

from dcrouter.config.lists import load_recipients, load_users
from dcrouter.errors import ConfigError
from tests.config.written import FileTestCase

HASH = "$argon2id$v=19$m=65536,t=3,p=4$c29tZXNhbHQ$RdescudvJCsgt3ub+b+dWQ"
FILE = Path("list")


class UsersTests(FileTestCase):
    def wrong(self, text: str) -> list[str]:
        FILE.write_text(text)
        return list(self.assertRaises(ConfigError, load_users, FILE).problems)

    def test_a_list_like_that_of_the_configuration(self) -> None:
        """An account without `may_send_as` sends as itself, where its name is an address."""
        FILE.write_text(
            f'- {{name: Alice@Example.com, password_hash: "{HASH}"}}\n'
            f'- {{name: bob, password_hash: "{HASH}", may_send_as: ["*@example.com"]}}\n'
        )
        users = load_users(FILE)
        self.assertEqual(
            [(user.name, user.password_hash) for user in users], [("Alice@Example.com", HASH), ("bob", HASH)]
        )
        self.assertEqual([user.may_send_as for user in users], [("alice@example.com",), ("*@example.com",)])
        FILE.write_text("[]")
        self.assertEqual(load_users(FILE), ())

    def test_every_problem_with_its_place(self) -> None:
        """As in routes.yaml."""
        self.assertEqual(
            self.wrong(
                f'- {{name: a@b.test, password_hash: "{HASH}"}}\n'
                "- {name: c@b.test, password_hash: secret}\n"
                f'- {{nam: d@b.test, password_hash: "{HASH}"}}\n'
                f'- {{name: e, password_hash: "{HASH}"}}\n'
                f'- {{name: f@b.test, password_hash: "{HASH}", may_send_as: []}}\n'
            ),
            [
                "list:2:20: [1].password_hash: not an argon2id hash: make one with `dcrouter passwd`",
                "list:3:4: [2].nam: unknown key (did you mean 'name'?)",
                "list:4:3: [3]: 'may_send_as' is missing: 'e' is not a mail address, which it would be else",
                "list:5:104: [4].may_send_as: the list is empty: it could send nothing",
            ],
        )

    def test_a_password_is_not_shown(self) -> None:
        """Somebody may write it where its hash belongs."""
        self.assertNotIn("hunter2", "".join(self.wrong("- {name: a@b.test, password_hash: hunter2}")))

    def test_names_are_unique(self) -> None:
        """Whatever their case."""
        one = f'- {{name: a@b.test, password_hash: "{HASH}"}}\n'
        two = one + one.replace("a@", "A@")
        self.assertEqual(self.wrong(two), ["list:2:4: [1].name: 'A@b.test' is also the name of [0]"])

    def test_what_is_no_list(self) -> None:
        """A half-written file must not be taken for one without accounts."""
        self.assertEqual(self.wrong(""), ["list:1:1: the file is empty"])
        self.assertEqual(self.wrong("users: []"), ["list:1:1: expected a list, such as [...], not a mapping"])
        FILE.unlink()
        for make, why in ((os.mkfifo, "is not a file"), (os.mkdir, "is a directory, not a file")):
            make(FILE)
            error = self.assertRaises(ConfigError, load_users, FILE)
            self.assertEqual(error.problems, (f"list {why}",))
            (FILE.rmdir if FILE.is_dir() else FILE.unlink)()


class RecipientsTests(FileTestCase):
    def wrong(self, text: str) -> list[str]:
        FILE.write_text(text)
        return list(self.assertRaises(ConfigError, load_recipients, FILE).problems)

    def test_one_on_each_line(self) -> None:
        """In the form that they are compared in; comments and empty lines between them, whatever ends a line."""
        first = "# who exists\r\nAlice@Example.com\r\n\r\n  bob#1@example.com # the other\n"
        FILE.write_text(first + "*@bücher.example\n*@*.b.test", "utf-8")
        self.assertEqual(
            load_recipients(FILE),
            {"alice@example.com", "bob#1@example.com", "*@xn--bcher-kva.example", "*@*.b.test"},
        )
        FILE.write_text("")
        self.assertEqual(load_recipients(FILE), frozenset())

    def test_every_problem_with_its_place(self) -> None:
        """Nothing that exists has any domain, so a list opens no relay."""
        self.assertEqual(
            self.wrong("a@b.test\nexample.com\n  x@*\n*\nre:.*@b\\.test\na@b.test c@b.test\n<>\na+*@b.test\n"),
            [
                "list:2:1: 'example.com' is not a recipient: a domain is written as *@example.com",
                "list:3:3: 'x@*' would exist in every domain: name the domain",
                "list:4:1: '*' would exist in every domain: name the domain",
                "list:5:1: 're:.*@b\\\\.test': a list has no regular expressions: write addresses, or *@ and a domain",
                "list:6:1: 'a@b.test c@b.test' is more than one address",
                "list:7:1: '<>' is the sender of bounces, and nobody's address",
                "list:8:1: 'a+*@b.test': in a list whoever exists does so with any detail: leave out '+*'",
            ],
        )

    def test_a_wrong_file_is_told_in_a_few_lines(self) -> None:
        """However long it is."""
        problems = self.wrong("nobody\n" * 1000)
        self.assertEqual(len(problems), 21)
        self.assertEqual(problems[-1], "list has 980 more lines that are wrong")

    def test_bytes_that_are_no_text(self) -> None:
        """With their place."""
        FILE.write_bytes(b"a@b.test\n\xff@b.test\n")
        error = self.assertRaises(ConfigError, load_recipients, FILE)
        self.assertEqual(error.problems, ("list:2:1: byte 0xff is not UTF-8",))

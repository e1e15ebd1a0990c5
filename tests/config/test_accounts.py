"""Who may log in, as the operator writes it, and what is told of it."""

from __future__ import annotations

from pathlib import Path

from dcrouter.config.load import load
from dcrouter.errors import ConfigError
from tests.config.test_lists import HASH
from tests.config.written import FileTestCase

ALICE = f'{{name: alice@example.com, password_hash: "{HASH}"}}'


class AccountTests(FileTestCase):
    def told(self, auth: str) -> list[str]:
        text = f"email:\n  hostname: a.b\n  auth: {{{auth}}}\n"
        return [problem.partition(": ")[2] for problem in self.problems(text)]

    def test_accounts(self) -> None:
        """Each may send as itself unless more is said; the defaults of the contract hold."""
        email = self.config(f"email: {{hostname: a.b, auth: {{users: [{ALICE}]}}}}").email
        assert email is not None
        auth = email.auth
        self.assertEqual([user.may_send_as for user in auth.users], [("alice@example.com",)])
        self.assertEqual((auth.required, auth.methods), (("submission", "smtps"), ("PLAIN", "LOGIN")))
        self.assertEqual((auth.failures.max, auth.failures.within, auth.failures.ban), (10, 600, 3600))
        self.assertEqual(email.require_tls, "submission")

    def test_slips(self) -> None:
        """Each with what would be right."""
        for text, problem in (
            ("users: [{name: bob, password_hash: x}]", "auth.users[0].password_hash: not an argon2id hash"),
            (
                f'users: [{{name: bob, password_hash: "{HASH}"}}]',
                "auth.users[0]: 'may_send_as' is missing: 'bob' is",
            ),
            (f'users: [{{name: "a\\tb", password_hash: "{HASH}"}}]', "is not the name of an account"),
            (f'users: [{{name: "", password_hash: "{HASH}"}}]', "auth.users[0].name: '' is not the name of an account"),
            (f"users: [{ALICE}, {ALICE.replace('alice', 'Alice')}]", "'Alice@example.com' is also the name of [0]"),
            (
                f"users: [{{name: a@b.test, password_hash: {HASH}}}]",
                "the hash ends at its first comma: inside",
            ),
            ("methods: []", "auth.methods: the list is empty: nobody could log in"),
            ("methods: [plain]", "'plain' is not one of PLAIN, LOGIN (did you mean 'PLAIN'?)"),
            ("required: imap", "'imap' is not one of smtp, submission, smtps"),
            ("failures: {within: 0s}", "auth.failures.within: nothing fails in no time"),
            ("failures: {ban: 0s}", "auth.failures.ban: nobody would be banned"),
            ("failures: {max: 0}", "'0' is not between 1 and 100000"),
        ):
            self.assertIn(problem, "\n".join(self.told(text)))

    def test_the_file_of_more_accounts_is_checked_too(self) -> None:
        """Its problems are told with their own places, behind those of routes.yaml."""
        Path("users.yaml").write_text("- {name: bob}\n")
        Path("routes.yaml").write_text("nope: 1\nemail: {hostname: a.b, auth: {users_file: users.yaml}}\n")
        here, there = self.assertRaises(ConfigError, load, Path("routes.yaml")).problems
        self.assertTrue(here.startswith("routes.yaml:1:1: nope: "), here)
        self.assertEqual(there, f"{self.directory}/users.yaml:1:3: [0]: 'password_hash' is missing")
        Path("users.yaml").unlink()
        self.assertEqual(
            self.told("users_file: users.yaml"),
            [f"email.auth.users_file: {self.directory}/users.yaml cannot be read: no such file or directory"],
        )

    def test_no_account_is_in_both(self) -> None:
        """Whose password would hold?"""
        Path("users.yaml").write_text(f"- {ALICE}\n")
        self.assertEqual(
            self.told(f"users: [{ALICE}], users_file: users.yaml"),
            ["email.auth.users_file: 'alice@example.com' is also in `users`"],
        )

    def test_ports_on_which_nobody_can_send_are_warned_of(self) -> None:
        """Where the operator speaks of them; accounts in either place, or trusted networks, change it."""
        text = "email: {hostname: a.b, ports: [25, 587]%s}"
        nobody = (
            "1:36: email.ports[1]: nobody can send through port 587: mail without AUTH is refused on submission ports "
            "(email.auth.required), and there are no accounts"
        )
        self.assertEqual(self.load(text % "")[1], [nobody])
        Path("users.yaml").write_text("[]")
        self.assertEqual(self.load(text % ", auth: {users_file: users.yaml}")[1], [nobody])
        Path("users.yaml").write_text(f"- {ALICE}\n")
        for more in (
            ", auth: {users_file: users.yaml}",
            f", auth: {{users: [{ALICE}]}}",
            ", auth: {required: []}",
            ", trusted: [10.0.0.0/8]",
        ):
            self.assertEqual(self.load(text % more)[1], [])
        self.assertEqual(self.load("email: {hostname: a.b}")[1], [])

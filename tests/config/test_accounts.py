"""Who may log in, as the operator writes it, and what is told of it."""

from __future__ import annotations

from pathlib import Path

from dcrouter.config.load import load
from dcrouter.config.methods import announced
from dcrouter.errors import ConfigError
from dcrouter.mail.server.users import Users
from dcrouter.wire.scram import Verifier
from tests.config.test_lists import HASH
from tests.config.written import FileTestCase

VERIFIER = str(Verifier.make("secret", iterations=4096))
SCRAM = f'{{name: carol@example.com, password_hash: "{HASH}", scram: "{VERIFIER}"}}'
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
        self.assertEqual((auth.required, auth.methods), (("submission", "smtps"), None))
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
            (
                "methods: [plain]",
                "PLAIN, LOGIN, OAUTHBEARER, XOAUTH2 (did you mean 'PLAIN'?)",
            ),
            ("required: imap", "'imap' is not one of smtp, submission, smtps"),
            ("failures: {within: 0s}", "auth.failures.within: nothing fails in no time"),
            ("failures: {ban: 0s}", "auth.failures.ban: nobody would be banned"),
            ("failures: {max: 0}", "'0' is not between 1 and 100000"),
        ):
            self.assertIn(problem, "\n".join(self.told(text)))

    def test_slips_of_other_sources(self) -> None:
        """Of verifiers, directories and issuers; no secret is shown."""
        ldap = "url: 'ldaps://l.test', base_dn: 'dc=x'"
        for text, problem in (
            (
                f'users: [{{name: a@b.test, password_hash: "{HASH}", scram: geheim}}]',
                "scram: not a SCRAM-SHA-256 verif",
            ),
            (f"ldap: {{{ldap}, filter: '(mail=*)'}}", "the filter does not say {user}"),
            (f"ldap: {{{ldap}, filter: '(mail={{user}}'}}", "a parenthesis of the filter is not closed"),
            (f"ldap: {{{ldap}, bind_dn: 'cn=x'}}", "auth.ldap: 'bind_dn' and 'bind_password' go together"),
            (f"ldap: {{{ldap}, bind_dn: 'cn=x', bind_password: ''}}", "bind_password: is empty"),
            ("ldap: {url: 'http://l.test', base_dn: 'dc=x'}", "is not a directory such as ldaps://"),
            ("ldap: {url: 'ldaps://geheim@l.test', base_dn: 'dc=x'}", "is not a directory such as ldaps://"),
            ("oauth2: {issuer: a}", "auth.oauth2: needs either 'jwks_url' or 'introspection_url'"),
            ("oauth2: {jwks_url: 'https://a.test', introspection_url: 'https://a.test'}", "not both"),
            ("oauth2: {introspection_url: 'https://:geheim@a.test/'}", "before the URL's @ stand a client's id"),
            ("oauth2: {introspection_url: 'ftp://a:geheim@a.test/'}", "not a URL such as https://client:secret@"),
        ):
            told = "\n".join(self.told(text))
            self.assertIn(problem, told)
            if "ldap" not in text:
                self.assertNotIn("geheim", told)

    def test_methods_that_nobody_can_check_are_errors(self) -> None:
        """Each says what it needs; one that some source cannot check is warned of, as it is not announced."""
        for auth, problem in (
            ("methods: [PLAIN]", "methods[0]: nobody can check PLAIN: it needs users, users_file or ldap"),
            (f"users: [{ALICE}], methods: [LOGIN, XOAUTH2]", "methods[1]: nobody can check XOAUTH2: it needs oauth2"),
            (f"users: [{ALICE}], methods: [SCRAM-SHA-256]", "methods[0]: nobody can check SCRAM-SHA-256: it needs use"),
            ("oauth2: {introspection_url: 'https://i.test/'}, methods: [PLAIN]", "methods[0]: nobody can check PLAIN"),
        ):
            self.assertIn(problem, "\n".join(self.told(auth)))
        ldap = "ldap: {url: 'ldaps://l.test', base_dn: 'dc=x'}"
        for auth, warning in (
            (f"users: [{SCRAM}], {ldap}, methods: [SCRAM-SHA-256]", "not announced: ldap cannot check it"),
            (f"users: [{SCRAM}, {ALICE}], methods: [SCRAM-SHA-256-PLUS]", "not announced: 'alice@example.com' has no"),
            ("oauth2: {jwks_url: 'https://i.test/'}", "tokens that the issuer gave for other services log in here"),
            ("oauth2: {jwks_url: 'http://i.test/', audience: a}", "without https, whoever is in between can have"),
        ):
            text = f"email:\n  hostname: a.b\n  auth: {{{auth}}}\n"
            self.assertIn(warning, "\n".join(self.load(text)[1]))

    def test_what_is_announced(self) -> None:
        """What every source of passwords can check, tokens where there is an issuer; `methods` limits and orders."""
        ldap, oauth2 = (
            "ldap: {url: 'ldaps://l.test', base_dn: 'dc=x'}",
            "oauth2: {introspection_url: 'https://i.test/'}",
        )
        scram, plain = ("SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"), ("PLAIN", "LOGIN")
        tokens = ("OAUTHBEARER", "XOAUTH2")
        for auth, expected in (
            (f"users: [{ALICE}]", plain),
            (f"users: [{SCRAM}]", scram + plain),
            (f"users: [{SCRAM}, {ALICE}]", plain),
            (ldap, plain),
            (f"users: [{SCRAM}], {ldap}", plain),
            (oauth2, tokens),
            (f"users: [{SCRAM}], {oauth2}", scram + plain + tokens),
            (f"users: [{SCRAM}], methods: [PLAIN, SCRAM-SHA-256]", ("PLAIN", *scram)),
            (f"users: [{SCRAM}], methods: [SCRAM-SHA-256-PLUS]", scram[:1]),
            (f"users: [{SCRAM}], methods: [SCRAM-SHA-256, SCRAM-SHA-256-PLUS]", scram[::-1]),
            (f"users: [{SCRAM}], {oauth2}, methods: [XOAUTH2]", ("XOAUTH2",)),
        ):
            email = self.config(f"email: {{hostname: a.b, auth: {{{auth}}}}}").email
            assert email is not None
            users = Users(email.auth.users)
            self.assertEqual(announced(email.auth, accounts=len(users), scram=users.scram), expected, auth)

    def test_secrets_of_sources_are_not_shown(self) -> None:
        """Neither by repr nor as text."""
        text = (
            "oauth2: {introspection_url: 'https://c:geheim@i.test/x'}, ldap: {url: 'ldaps://l.test', base_dn: 'dc=x', \
bind_dn: 'cn=x', bind_password: geheim}"
        )
        email = self.config(f"email: {{hostname: a.b, auth: {{{text}}}}}").email
        assert email is not None and email.auth.oauth2 is not None
        place = email.auth.oauth2.introspection_url
        assert place is not None
        self.assertEqual((place.url, place.client, str.__str__(place.secret)), ("https://i.test/x", "c", "geheim"))
        self.assertNotIn("geheim", repr(email.auth) + str(place))

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

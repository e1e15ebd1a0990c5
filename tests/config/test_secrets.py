"""Secrets that stand where they are wrong: errors go to terminals, logs and tickets."""

from __future__ import annotations

from collections.abc import Iterable

from tests.config.written import FileTestCase

MAIL = "email: {{hostname: mx.a.test, {}}}"
ACME = "certificates: {{acme: {{email: a@b.test, {}}}}}"
ROUTE = "routes: [{{name: a, match: {{ports: 80}}, {}, action: {{type: respond}}}}]"
TARGET = "routes: [{{name: a, match: {{ports: 80}}, action: {{type: forward, target: {}}}}}]"


class SecretTests(FileTestCase):
    def hidden(self, secret: str, wrong: Iterable[tuple[str, str]]) -> None:
        """`SECRET` stands for it."""
        for around, text in wrong:
            problems = self.problems(around.format(text.replace("SECRET", secret)))
            self.assertNotIn(secret, "\n".join(problems))

    def test_keys_are_not_repeated(self) -> None:
        """In the name of a DNS list, in a query, or where something else is expected."""
        wrong = (
            (MAIL, "dnsbl: [{zone: 'SECRET.zen.dq.spamhaus.net:53'}]"),
            (MAIL, "dnsbl: [{zone: 'SECRET.zen.dq. spamhaus.net'}]"),
            (MAIL, "dnsbl: [{zone: 'dns://SECRET.zen.dq.spamhaus.net/'}]"),
            (MAIL, "dnsbl: [SECRET.zen.dq.spamhaus.net]"),
            (MAIL, "auth: {oauth2: {jwks_url: 'htps://id.test/?token=SECRET'}}"),
            (ACME, "external_account: {key_id: x, hmac_key: '?SECRET'}"),
            (ACME, "dns: SECRET"),
            (ROUTE, "security: {jwt: SECRET}"),
        )
        self.hidden("abcdefghijkl7mnopqrstuvwx2", wrong)

    def test_passwords_are_not_repeated(self) -> None:
        """Of a URL without its scheme too, where a list is expected, and where YAML takes them for something else."""
        wrong = (
            (MAIL, "auth: {users: ['bob:SECRET']}"),
            (MAIL, "auth: {users: 'bob:SECRET'}"),
            (MAIL, "auth: {users: [{name: bob, password_hash: SECRET}]}"),
            (MAIL, "auth: {ldap: {url: 'cn:SECRET@ldap.test', base_dn: x}}"),
            (MAIL, "egress: [{through: 'socks5://bob:SECRET@proxy.test:1080'}]"),
            (ACME, "external_account: {key_id: x, hmac_key: *SECRET }"),
            (ACME, "external_account: {key_id: x, hmac_key: !SECRET }"),
            (ROUTE, "security: {basic_auth: 'bob:SECRET'}"),
            (TARGET, "'bob:SECRET@back.test:80'"),
            (TARGET, "{host: 'bob:SECRET@back.test', port: 80}"),
        )
        self.hidden("kurz", wrong)

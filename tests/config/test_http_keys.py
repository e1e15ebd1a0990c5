"""Keys of routes that only HTTP has: what they mean, and what is said of wrong ones."""

# ruff: noqa: E501 - the lines stand here as the operator sees them

from __future__ import annotations

from pathlib import Path

import bcrypt
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from dcrouter.config.actions import Static
from dcrouter.config.effective import Protocols
from dcrouter.config.htpasswd import read_users
from dcrouter.config.load import load_with_warnings
from dcrouter.control.names import names_of
from dcrouter.errors import ConfigError
from tests.config.written import FileTestCase

FORWARD = "type: forward, target: {host: h.test, port: 1}"


class HttpKeyCase(FileTestCase):
    def wrong(self, action: str = FORWARD, *, more: str = "", match: str = "ports: 80") -> list[str]:
        """What is said of a route with this in its action; without the place of the file."""
        found = self.problems(f"routes:\n  - {{name: r, match: {{{match}}}, {more} action: {{{action}}}}}\n")
        return [one.split(": routes[0].", 1)[1] for one in found]

    def protocol(self, text: str) -> str:
        config = self.config(text)
        return Protocols(config.routes, config.listen).of(config.routes[0])


class HeaderTests(HttpKeyCase):
    def test_they_make_a_route_one_of_http(self) -> None:
        """Each of them by itself."""
        for action in (
            f"{{{FORWARD}, headers: {{request: {{set: {{a: b}}}}}}}}",
            f"{{{FORWARD}, path_rewrite: {{strip_prefix: /v1/}}}}",
        ):
            text = f"routes: [{{name: r, match: {{ports: 80}}, action: {action}}}]"
            self.assertEqual(self.protocol(text), "http")
        text = (
            f"routes: [{{name: r, match: {{ports: 80}}, tls: {{mode: terminate, hsts: {{}}}}, action: {{{FORWARD}}}}}]"
        )
        self.assertEqual(self.protocol(text), "http")
        tls = self.config(text).routes[0].tls
        assert tls is not None and tls.hsts is not None
        self.assertEqual(tls.hsts.max_age, 180 * 86400)

    def test_what_frames_a_message_is_ours(self) -> None:
        """In both directions, in any case of its letters, to set, to add and to remove."""
        for name in (
            "Connection",
            "transfer-encoding",
            "Content-Length",
            "TE",
            "keep-alive",
            "Upgrade",
            "expect",
            "Proxy-Authorization",
        ):
            for changes in (f"set: {{{name}: x}}", f"add: {{{name}: x}}", f"remove: [{name}]"):
                for side in ("request", "response"):
                    (line,) = self.wrong(f"{FORWARD}, headers: {{{side}: {{{changes}}}}}")
                    self.assertIn("frames the message or is for one connection only: the router sets it itself", line)
                    self.assertTrue(line.startswith(f"action.headers.{side}.{changes[:3]}"), line)

    def test_each_mistake_has_its_place_and_its_sentence(self) -> None:
        """No line can be added to a message, no placeholder is left as it is."""
        headers = f"{FORWARD}, headers: "
        for changes, line in (
            ('{request: {set: {"a b": c}}}', "action.headers.request.set.'a b': 'a b' is not the name of a header"),
            (
                '{request: {set: {a: "b\\r\\nc: d"}}}',
                "action.headers.request.set.a: the value of header a holds a character that no header can",
            ),
            (
                '{response: {add: {a: "{clientip}"}}}',
                "action.headers.response.add.a: {clientip} is not one of {client_ip} {client_port} {host} {port} {path} {query} {uri} {method} {scheme} {route} {session} {user}; {{ and }} stand for braces",
            ),
            (
                '{response: {add: {a: "{x"}}}',
                "action.headers.response.add.a: a brace without its other half: {{ and }} stand for braces",
            ),
            ("{request: {remove: [host]}}", "action.headers.request.remove[0]: a request has a Host: `set` changes it"),
            (
                "{request: {add: {Host: x}}}",
                "action.headers.request.add.Host: a request has one Host: `set` changes it",
            ),
            (
                '{request: {set: {Host: ""}}}',
                "action.headers.request.set.Host: a request has a Host, which is not empty",
            ),
            (
                "{request: {set: {a: b}, remove: [A]}}",
                "action.headers.request.remove[0]: A is set too, which replaces it: leave it out here",
            ),
            ("{request: {}}", "action.headers.request: changes nothing: say set, add or remove"),
            ("{}", "action.headers: changes nothing: say request or response"),
            ("{requests: {}}", "action.headers.requests: unknown key (did you mean 'request'?)"),
        ):
            self.assertIn(line, self.wrong(headers + changes), changes)

    def test_prefixes_are_whole_segments(self) -> None:
        """And no patterns."""
        rewrite = f"{FORWARD}, path_rewrite: "
        for text, reason in (
            ("v1", "'v1' is not the beginning of a path, such as /v1: without wildcards and query"),
            ("/", "'/' is not the beginning of a path, such as /v1: without wildcards and query"),
            ("/v1/**", "'/v1/**' is not the beginning of a path, such as /v1: without wildcards and query"),
            ("/v1?x", "'/v1?x' is not the beginning of a path, such as /v1: without wildcards and query"),
            ("/a//b", "'/a//b' has an empty segment, . or .."),
            ("/a/%2e%2e", "'/a/%2e%2e' has an empty segment, . or .."),
        ):
            self.assertEqual(
                self.wrong(f"{rewrite}{{add_prefix: '{text}'}}"), [f"action.path_rewrite.add_prefix: {reason}"]
            )
        self.assertEqual(
            self.wrong(rewrite + "{}"), ["action.path_rewrite: changes nothing: say strip_prefix or add_prefix"]
        )

    def test_nobody_sees_requests_inside_tls_that_is_passed_through(self) -> None:
        """Nor on a tcp route."""
        self.assertEqual(
            self.wrong(
                f"{FORWARD}, headers: {{request: {{set: {{a: b}}}}}}, path_rewrite: {{add_prefix: /x}}",
                more="tls: {mode: passthrough, hsts: {}},",
                match="ports: 443",
            ),
            [
                "tls.hsts: nobody sees a request inside TLS that is passed through: leave it out",
                "action.headers: nobody sees a request inside TLS that is passed through: leave it out",
                "action.path_rewrite: nobody sees a request inside TLS that is passed through: leave it out",
            ],
        )
        self.assertEqual(
            self.wrong(f"{FORWARD}, path_rewrite: {{add_prefix: /x}}", more="protocol: tcp,"),
            ["protocol: bytes of a tcp route pass untouched, but action.path_rewrite needs http"],
        )

    def test_the_lists_of_browsers_have_conditions(self) -> None:
        """Which a route that asks for it must fulfil."""
        self.assertEqual(
            self.wrong(more="tls: {mode: terminate, hsts: {preload: true}},", match="ports: 443"),
            ["tls.hsts.preload: the lists of browsers ask for include_subdomains: true and max_age: 365d or more"],
        )


class RateTests(HttpKeyCase):
    def test_it_is_one_or_several(self) -> None:
        """A bare rate counts by address."""
        for text, keys in (
            ("100/min", ["client_ip"]),
            ("{rate: 100/min, burst: 5}", ["client_ip"]),
            ("[100/min, {rate: 5/s, key: 'header:X-Api-Key'}]", ["client_ip", "header:x-api-key"]),
        ):
            text = f"routes: [{{name: r, match: {{ports: 80}}, security: {{request_rate: {text}}}, action: {{{FORWARD}}}}}]"
            self.assertEqual([one.key for one in self.config(text).routes[0].security.request_rate], keys)
            self.assertEqual(self.protocol(text), "http")

    def test_mistakes(self) -> None:
        """Each with its place; `defaults`, which hold for every route, cannot limit requests."""
        for text, line in (
            ("100", "security.request_rate: '100' is not a rate such as 100/s, 300/min, 500/hour or 1000/day"),
            ("[]", "security.request_rate: the list is empty: leave it out for no limit"),
            (
                "{rate: 1/s, key: ip}",
                "security.request_rate.key: 'ip' is not client_ip or header:NAME, such as header:x-api-key",
            ),
            (
                "{rate: 1/s, key: 'header:a b'}",
                "security.request_rate.key: 'header:a b' is not client_ip or header:NAME, such as header:x-api-key",
            ),
        ):
            self.assertEqual(self.wrong(more=f"security: {{request_rate: {text}}},"), [line])
        (line,) = self.problems("defaults: {security: {request_rate: 1/s}}")
        self.assertIn("defaults.security.request_rate: unknown key", line)
        self.assertEqual(
            self.wrong(more="tls: {mode: passthrough}, security: {request_rate: 1/s},"),
            ["security.request_rate: nobody sees a request inside TLS that is passed through: leave it out"],
        )


class StaticTests(HttpKeyCase):
    def test_a_root_is_a_directory(self) -> None:
        """Beside the file where its path is relative."""
        Path("www").mkdir()
        Path("file").write_text("")
        text = "routes: [{name: r, match: {ports: 80}, action: {type: static, root: www}}]"
        self.assertEqual(self.protocol(text), "http")
        action = self.config(text).routes[0].action
        assert isinstance(action, Static)
        self.assertEqual((action.root, action.index), (self.directory / "www", ("index.html",)))
        for root, why in (("gone", "there is no {}/gone"), ("file", "{}/file is not a directory")):
            self.assertEqual(self.wrong(f"type: static, root: {root}"), ["action.root: " + why.format(Path.cwd())])
        self.assertEqual(self.wrong("type: static"), ["action: 'root' is missing"])

    def test_mistakes(self) -> None:
        """Each with its place."""
        Path("www").mkdir()
        static = "type: static, root: www"
        for more, line in (
            (
                "index: [a/b]",
                "action.index[0]: 'a/b' is not the name of a file, such as index.html: without directories",
            ),
            ("headers: {request: {set: {a: b}}}", "action.headers.request: unknown key (known here: response)"),
        ):
            self.assertIn(line, self.wrong(f"{static}, {more}"))
        self.assertEqual(
            self.wrong(static, more="tls: {mode: passthrough},", match="ports: 443"),
            ["action.type: static cannot answer inside TLS that is passed through"],
        )
        self.assertEqual(
            self.wrong(static, more="tls: {mode: terminate-and-reencrypt},", match="ports: 443"),
            ["tls.mode: static has no target to re-encrypt for: terminate is enough"],
        )


class BasicAuthTests(HttpKeyCase):
    def test_users_have_good_hashes(self) -> None:
        """Comments and empty lines are none; what is wrong is told at its line, without the hash."""
        good = bcrypt.hashpw(b"x", bcrypt.gensalt(4)).decode()
        argon2 = "$argon2id$v=19$m=19456,t=2,p=1$" + "a" * 22 + "$" + "b" * 43
        Path("users").write_text(f"# ops\n\nann:{good}\nbob:{good.replace('$2b$', '$2y$')}\ncid:{argon2}\n")
        text = "routes: [{name: r, match: {ports: 80}, security: {basic_auth: {users_file: users}}, action: {type: respond}}]"
        self.assertEqual(self.protocol(text), "http")
        self.assertEqual(sorted(read_users(Path("users"))), ["ann", "bob", "cid"])
        slow = good.replace("$04$", "$20$")
        Path("users").write_text(
            f"ann:{good}\nann:{good}\n  bob:$apr1$salt$hash\ncid\n:{good}\ndan:secret\neve:{slow}\nfay:{argon2.replace('19456', '9999999')}\n"
        )
        error = self.assertRaises(ConfigError, load_with_warnings, self.written(text), {})
        file = Path("users").absolute()
        self.assertEqual(
            list(error.problems),
            [
                f"{file}:2:1: 'ann' is here twice",
                f"{file}:3:3: 'bob' has a hash of MD5, which is too weak: make one with `htpasswd -B`",
                f"{file}:4:1: not a line such as name:hash",
                f"{file}:5:1: not the name of a user",
                f"{file}:6:1: 'dan' has no bcrypt or argon2id hash: make one with `htpasswd -B`",
                f"{file}:7:1: 'eve' has a bcrypt hash of cost 20: from 4 to 15 are taken",
                f"{file}:8:1: 'fay' has an argon2id hash of m=9999999,t=2,p=1: that is too much",
            ],
        )

    def test_the_file_is_there(self) -> None:
        """And has somebody in it."""
        text = "security: {basic_auth: {users_file: users}},"
        (line,) = self.wrong(more=text)
        self.assertEqual(
            line,
            f"security.basic_auth.users_file: {Path('users').absolute()} cannot be read: no such file or directory",
        )
        Path("users").write_text("# nobody\n")
        _, warnings = self.load(f"routes: [{{name: r, match: {{ports: 80}}, {text} action: {{type: respond}}}}]")
        self.assertIn("has no users: nobody can log in", warnings[0])

    def written(self, text: str) -> Path:
        Path("routes.yaml").write_text(text)
        return Path("routes.yaml")


class JwtTests(HttpKeyCase):
    def test_there_is_one_key_and_algorithms_that_it_is_for(self) -> None:
        """Anything else would take tokens that it should not, or none."""
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key()
        Path("key.pem").write_bytes(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
        Path("no.pem").write_text("x")
        url = "jwks_url: 'https://id.example/keys'"
        for keys, line in (
            ("algorithms: [RS256]", "security.jwt: needs one of 'secret', 'public_key' and 'jwks_url'"),
            (
                f"{url}, secret: x, algorithms: [RS256]",
                "security.jwt: needs one of 'secret', 'public_key' and 'jwks_url', not more",
            ),
            (f"{url}", "security.jwt: 'algorithms' is missing"),
            (f"{url}, algorithms: []", "security.jwt.algorithms: the list is empty: no token would be taken"),
            (f"{url}, algorithms: [RS256, HS256]", "security.jwt.algorithms[1]: HS256 is checked with a secret"),
            (
                f"secret: {'x' * 64}, algorithms: [ES256]",
                "security.jwt.algorithms[0]: ES256 is checked with a public key",
            ),
            (
                "secret: '', algorithms: [HS256, HS512]",
                "security.jwt.secret: is empty: anybody could make tokens",
            ),
            (
                "public_key: key.pem, algorithms: [EdDSA]",
                f"security.jwt.algorithms[0]: EdDSA is not what the key in {Path.cwd()}/key.pem is for",
            ),
            (
                "public_key: no.pem, algorithms: [RS256]",
                f"security.jwt.public_key: {Path.cwd()}/no.pem is not a PEM public key",
            ),
            (
                "jwks_url: 'ftp://x/', algorithms: [RS256]",
                "security.jwt.jwks_url: 'ftp://x/' is not a URL such as https://id.example.com/path",
            ),
            (
                "jwks_url: 'https://u:p@x/', algorithms: [RS256]",
                "security.jwt.jwks_url: 'https://...@x/' is not a URL such as https://id.example.com/path",
            ),
        ):
            self.assertEqual(self.wrong(more=f"security: {{jwt: {{{keys}}}}},"), [line])
        self.assertIn(
            "'none' is not one of HS256", self.wrong(more=f"security: {{jwt: {{{url}, algorithms: [none]}}}},")[0]
        )

    def test_what_is_hardly_meant(self) -> None:
        """A short secret, keys that come in clear."""
        for keys, warning in (
            ("secret: short, algorithms: [HS512]", "is shorter than the 64 octets of HS512"),
            (
                "jwks_url: 'http://id.example/', algorithms: [RS256]",
                "without https, whoever is in between can have any token taken",
            ),
        ):
            text = (
                f"routes: [{{name: r, match: {{ports: 80}}, security: {{jwt: {{{keys}}}}}, action: {{type: respond}}}}]"
            )
            self.assertIn(warning, self.load(text)[1][0])
            self.assertNotIn("short,", self.load(text)[1][0])

    def test_a_request_has_one_authorization(self) -> None:
        """So it is a password or a token."""
        Path("users").write_text("ann:" + bcrypt.hashpw(b"x", bcrypt.gensalt(4)).decode())
        both = f"basic_auth: {{users_file: users}}, jwt: {{secret: {'x' * 32}, algorithms: [HS256]}}"
        self.assertEqual(
            self.wrong(more=f"security: {{{both}}},"),
            ["security.jwt: a request has one Authorization, which basic_auth asks for: keep one of them"],
        )


class ForwardAuthTests(HttpKeyCase):
    def test_mistakes(self) -> None:
        """Each with its place."""
        url = "url: 'http://127.0.0.1:9000/check'"
        for keys, line in (
            ("{}", "security.forward_auth: 'url' is missing"),
            (
                "{url: 127.0.0.1}",
                "security.forward_auth.url: '127.0.0.1' is not a URL such as https://id.example.com/path",
            ),
            (f"{{{url}, timeout: 0s}}", "security.forward_auth.timeout: nobody answers in no time"),
            (
                f"{{{url}, copy_headers: [Host]}}",
                "security.forward_auth.copy_headers[0]: Host is the client's: it is not copied",
            ),
            (
                f"{{{url}, copy_headers: [TE]}}",
                "security.forward_auth.copy_headers[0]: header TE frames the message or is for one connection only: the router sets it itself",
            ),
        ):
            self.assertEqual(self.wrong(more=f"security: {{forward_auth: {keys}}},"), [line])

    def test_its_name_is_resolved(self) -> None:
        """By the parent, as those of targets."""
        text = "routes: [{name: r, match: {ports: 80}, security: {forward_auth: {url: 'https://Auth.example/x'}}, action: {type: respond}}]"
        self.assertEqual(self.protocol(text), "http")
        config = self.config(text)
        self.assertEqual(names_of(config, config.routes), ("auth.example",))

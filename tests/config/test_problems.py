"""What an operator is told: all of it at once, each with its place and what would be right."""

# ruff: noqa: E501 - the lines stand here as the operator sees them

from __future__ import annotations

import os
from pathlib import Path

from dcrouter.config.document import compose
from dcrouter.config.findings import Findings
from dcrouter.config.forms import Secret
from dcrouter.config.load import load
from dcrouter.config.place import Invalid, Place
from dcrouter.config.read import Reader
from dcrouter.errors import ConfigError
from tests.config.written import FORWARD, FileTestCase

KEYS = (
    "version, state_dir, user, group, listen, resolver, admin, log, access_log, tls, certificates, proxy_protocol, http, "
    "defaults, routes, email"
)

MANY = """\
    version: 2
    state_dir: routes.yaml
    user: nobody-at-all
    listen: [0.0.0.0/0]
    workers: 2
    log: {level: loud, format: text, files: x}
    access_log: {sample: 1.5}
    tls: {min_version: TLSv1.0, ciphers: NONE-SUCH}
    certificates:
      files: [{cert: no.pem, key: no.key}]
    proxy_protocol:
      - {ports: [0]}
    http: {request_timeout: 30}
    defaults:
      timeouts: {idel: 1s}
      security: {block: [10.0.0.1/8]}
    routes:
      - name: web
        match: {ports: 443, domains: [a..b]}
        tls:
          mode: terminat
        action: {type: forward}
      - name: web
        enabled: on
        match: {ports: [1, 70000], client_ips: []}
        action: {type: redirect, to: "https://{hst}/", status: 200}
      - {match: {ports: 2}, action: {type: respond, headers: {"a b": c}}}
    email:
      banner: "é"
      ports: [0]
      max_message_size: 50
      rules:
        - {name: in, match: {clients: nobody}, action: {type: deliver, maildir: /etc}}
        - {name: out, action: {type: forward, targets: [{host: h.test}]}}
      queue: {retry: {jitter: 7}}
"""


class ProblemTests(FileTestCase):
    def test_the_line_of_the_contract(self) -> None:
        """File, line, column, path, value, choices, suggestion."""
        text = (
            "version: 1\n" * 1
            + "# \n" * 5
            + (
                "routes:\n"
                "  - name: web\n"
                "    match: {ports: 443}\n"
                "    action: {type: forward, target: {host: h.test, port: 1}}\n"
                "    tls:\n"
                "      mode: terminat\n"
            )
        )
        Path("routes.yaml").write_text(text)
        error = self.assertRaises(ConfigError, load, Path("routes.yaml"))
        self.assertEqual(
            error.problems,
            (
                "routes.yaml:12:7: routes[0].tls.mode: 'terminat' is not one of passthrough, terminate, "
                "terminate-and-reencrypt (did you mean 'terminate'?)",
            ),
        )

    def test_every_problem_of_a_file_at_once(self) -> None:
        """More than thirty mistakes, one line each, in the order of the file."""
        self.assertEqual(
            self.problems(MANY),
            [
                "1:1: version: '2' is not 1",
                f"2:1: state_dir: {self.directory}/routes.yaml is not a directory",
                "3:1: user: there is no user 'nobody-at-all' on this host",
                "4:10: listen[0]: '0.0.0.0/0' is not an IP address such as 192.0.2.1 or 2001:db8::1, not a network",
                "5:1: workers: unknown key (known here: version, state_dir, user, group, listen, resolver, admin, log, access_log, "
                "tls, certificates, proxy_protocol, http, defaults, routes, email)",
                "6:7: log.level: 'loud' is not one of debug, info, warn, error",
                "6:34: log.files: unknown key (did you mean 'file'?)",
                "7:1: access_log: 'file' is missing",
                "7:14: access_log.sample: '1.5' is not between 0 and 1",
                "8:7: tls.min_version: 'TLSv1.0' is not one of TLSv1.2, TLSv1.3 (did you mean 'TLSv1.3'?)",
                "8:29: tls.ciphers: 'NONE-SUCH' is not modern, intermediate or suites of OpenSSL",
                f"10:12: certificates.files[0].cert: {self.directory}/no.pem cannot be read: no such file or directory",
                f"10:26: certificates.files[0].key: {self.directory}/no.key cannot be read: no such file or directory",
                "12:5: proxy_protocol[0]: 'from' is missing",
                "12:14: proxy_protocol[0].ports[0]: '0' is not a port: ports go from 1 to 65535",
                "13:8: http.request_timeout: '30' is not a duration: a number with ms, s, m, h or d, such as 250ms, 5s or 4h",
                "15:14: defaults.timeouts.idel: unknown key (did you mean 'idle'?)",
                "16:22: defaults.security.block[0]: '10.0.0.1/8' has bits set behind its prefix (did you mean '10.0.0.0/8'?)",
                "19:35: routes[0].match.domains[0]: 'a..b' is not a host name",
                "21:7: routes[0].tls.mode: 'terminat' is not one of passthrough, terminate, terminate-and-reencrypt "
                "(did you mean 'terminate'?)",
                "22:5: routes[0].action: 'targets' is missing",
                "23:5: routes[1].name: 'web' is also the name of routes[0]",
                "24:5: routes[1].enabled: 'on' is not true or false",
                "25:24: routes[1].match.ports[1]: '70000' is not a port: ports go from 1 to 65535",
                "25:32: routes[1].match.client_ips: the list is empty: no client would match",
                "26:30: routes[1].action.to: {hst} is not one of {host} {port} {path} {query} {uri} (did you mean 'host'?)",
                "26:52: routes[1].action.status: '200' is not one of 301, 302, 303, 307, 308",
                "27:5: routes[2]: 'name' is missing",
                "27:59: routes[2].action.headers.'a b': 'a b' is not a header's name",
                "28:1: email: 'hostname' is missing",
                "28:1: email: 'postmaster' is missing: rule 'out' accepts mail from strangers",
                "29:3: email.banner: 'é' is not one line of printable ASCII",
                "30:11: email.ports[0]: '0' is not a port: ports go from 1 to 65535",
                "31:3: email.max_message_size: '50' is not a size: a number with B, KB, MB, GB or TB, such as 16KB or 50MB",
                "33:26: email.rules[0].match.clients: 'nobody' is not one of any, may_relay, authenticated, strangers",
                "33:68: email.rules[0].action.maildir: '/etc' is not a path under state_dir, such as maildir/{recipient}",
                "34:7: email.rules[1]: an open relay: strangers match rule 'out' with any recipient, and it forwards "
                "their mail; say match.recipients",
                "35:19: email.queue.retry.jitter: '7' is not between 0 and 1",
            ],
        )

    def test_kinds_that_were_not_expected(self) -> None:
        """A list for a mapping, text for a list, nothing for something."""
        for text, problem in (
            ("- a\n", f"1:1: expected a mapping (known here: {KEYS}), not a list"),
            ("text\n", f"1:1: expected a mapping (known here: {KEYS}), not text"),
            ("routes: web\n", "1:1: routes: expected a list, such as [...], not text"),
            ("routes:\n", "1:1: routes: expected a list, such as [...], not nothing"),
            (
                "routes: [web]\n",
                "1:10: routes[0]: expected a mapping (known here: name, enabled, priority, match, protocol, tls, action, security, timeouts), not text",
            ),
            ("log: []\n", "1:1: log: expected a mapping (known here: level, format, file), not a list"),
            ("log: {level: [info]}\n", "1:7: log.level: expected one of debug, info, warn, error, not a list"),
            ("log: {level: }\n", "1:7: log.level: expected one of debug, info, warn, error, not nothing"),
            ("state_dir: {a: b}\n", "1:1: state_dir: expected a path, not a mapping"),
        ):
            self.assertEqual(self.problems(text), [problem])

    def test_keys_of_later_times_are_unknown(self) -> None:
        """A key whose capability is not built yet is told, not ignored."""
        for text, problem in (
            ("workers: 1", "workers: unknown key (known here: version,"),
            ("metrics: {}", "metrics: unknown key"),
            ("email: {hostname: a.b, pipelines: {}}", "email.pipelines: unknown key"),
            ("email: {hostname: a.b, queue: {store: redis}}", "'redis' is not one of sqlite, memory"),
            ("email: {hostname: a.b, scanners: {}}", "email.scanners: unknown key"),
            ("email: {hostname: a.b, rules: [{process: x}]}", "email.rules[0].process: unknown key"),
            (
                "routes: [{name: a, match: {ports: 1}, action: {type: forward, engine: nftables}}]",
                "routes[0].action.engine: unknown key",
            ),
            ("a: &a {b: 1}\n<<: *a", "<<': unknown key: YAML 1.2 has no merge keys"),
        ):
            self.assertIn(problem, "\n".join(self.problems(text)))

    def test_every_suite_of_a_list_is_known(self) -> None:
        """OpenSSL would pass over a slip beside good ones; words that take some away, or sort them, are its own."""
        self.assertEqual(
            self.problems("tls: {ciphers: 'ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES129-GCM-SHA256'}"),
            ["1:7: tls.ciphers: 'ECDHE-RSA-AES129-GCM-SHA256' is no suite of OpenSSL"],
        )
        good = "tls: {ciphers: 'ECDHE+AESGCM:!aNULL:@STRENGTH:TLS_AES_128_GCM_SHA256'}\nworkers: 2\n"
        (problem,) = self.problems(good)
        self.assertTrue(problem.startswith("2:1: workers: unknown key"), problem)

    def test_an_unknown_key_is_not_also_missing(self) -> None:
        """One slip, one line."""
        self.assertEqual(
            self.problems("routes: [{nam: a, match: {port: 1}, action: {type: block}}]"),
            [
                "1:11: routes[0].nam: unknown key (did you mean 'name'?)",
                "1:27: routes[0].match.port: unknown key (did you mean 'ports'?)",
            ],
        )

    def test_within_routes(self) -> None:
        """What a value can know of itself."""
        for route, problem in (
            (
                "tls: {mode: passthrough, certificate: auto}, action: %s",
                "tls.certificate: a passthrough route shows the target's certificate and has none of its own",
            ),
            (
                "tls: {mode: terminate, upstream: {verify: false}}, action: %s",
                "tls.upstream: only terminate-and-reencrypt speaks TLS to the target",
            ),
            (
                "tls: {mode: passthrough}, action: {type: respond}",
                "action.type: respond cannot answer inside TLS that is passed through",
            ),
            (
                "tls: {mode: passthrough}, action: {type: block, status: 404}",
                "action.status: block cannot answer inside TLS that is passed through",
            ),
            (
                "tls: {mode: terminate-and-reencrypt}, action: {type: block}",
                "tls.mode: block has no target to re-encrypt for: terminate is enough",
            ),
            (
                "tls: {mode: terminate}, action: {type: mail}",
                "tls: TLS of a mail route is the mail server's: leave it out",
            ),
            (
                "action: {type: forward, target: {host: h.test}}",
                "action.target: 'port' is missing (a number, or preserve)",
            ),
            (
                "action: {type: forward, target: {host: h.test, unix: /x}}",
                "action.target: needs either 'host' or 'unix', not both",
            ),
            ("action: {type: forward, target: {}}", "action.target: needs either 'host' or 'unix'"),
            ("action: {type: forward, target: {unix: /x, port: 1}}", "action.target.port: a unix socket has no port"),
            (
                "action: {type: forward, target: {host: h.test, port: 1}, targets: []}",
                "action.target: says the same as 'targets': keep one of them",
            ),
            (
                "action: {type: respond, status: 204, body: x}",
                "action.body: an answer with status 204 has no body (RFC 9110 section 6.4.1)",
            ),
            ("action: {type: respond, headers: {A: b, a: c}}", "action.headers.a: says the same as 'A'"),
            (
                'action: {type: respond, headers: {a: "b\\r\\nc: d"}}',
                "action.headers.a: the value of header a holds a character that no header can",
            ),
            (
                "action: {type: respond, headers: {Content-Length: 1}}",
                "action.headers.Content-Length: header Content-Length frames the response and cannot be set",
            ),
            (
                'action: {type: redirect, to: "https://a/\\r\\nx: y"}',
                "action.to: 'https://a/\\r\\nx: y' is not a URL: one line of ASCII without spaces",
            ),
            (
                "action: {type: redirect, to: 'https://a.test{query}'}",
                "action.to: {query} stands in the host name, where the client would choose it: put a / before it",
            ),
            (
                "action: {type: redirect, to: 'https://{host'}",
                "action.to: 'https://{host' has a brace without its other half",
            ),
            ("action: {type: block, status: 200}", "action.status: '200' is not between 400 and 599"),
        ):
            text = "routes: [{name: a, match: {ports: 1}, " + route.replace("%s", FORWARD) + "}]"
            problems = [problem.partition(": ")[2] for problem in self.problems(text)]
            self.assertIn("routes[0]." + problem, problems)

    def test_a_secret_is_text_a_variable_or_a_file(self) -> None:
        """And it is shown to nobody."""
        Path("s").write_text("from file\n")
        os.mkfifo("pipe")
        braced = "neither a text nor {file: PATH}: a secret that begins with a brace stands in quotes"
        for text, secret in (("x", "x"), ("123", "123"), ("{file: s}", "from file")):
            read = self.read_secret(text)
            self.assertEqual((read, repr(read)), (secret, "Secret(...)"))
        for text, problem in (
            ("{file: none}", f"1:2: file: {self.directory}/none cannot be read: no such file or directory"),
            ("{}", "1:1: 'file' is missing"),
            ("{file: pipe}", f"1:2: file: {self.directory}/pipe is not a file"),
            ("{file: .}", f"1:2: file: {self.directory} is a directory, not a file"),
            *((text, f"1:1: {braced}") for text in ("{fil: s}", "{hunter2}", "{file: s, hunter2: }")),
            ("[s]", "1:1: expected a secret, not a list"),
        ):
            self.assertEqual(self.read_secret(text), f"f:{problem}")

    def read_secret(self, text: str) -> object:
        findings = Findings()
        root = compose(text, {}, findings)
        assert root is not None
        try:
            return Reader(self.directory).read(Place.root(root, findings), Secret)
        except Invalid:
            return findings.problems[0].show("f")

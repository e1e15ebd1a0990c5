"""A checked configuration on its way to the child processes."""

from __future__ import annotations

import json

from attrs import evolve

from dcrouter.config.load import from_plain, to_plain
from dcrouter.config.rules import MailForward
from tests.config.written import FORWARD, FileTestCase


class PlainTests(FileTestCase):
    TEXT = """\
        version: 1
        listen: [127.0.0.1, "::1"]
        resolver: {servers: [192.0.2.53, "[::1]:5353"], trust_ad: false, timeout: 1s, addresses: ipv6}
        log: {level: debug, file: x.log}
        access_log: {file: a.log, sample: 0.5}
        tls: {min_version: TLSv1.3, ciphers: modern}
        proxy_protocol: [{from: [10.0.0.0/8, "2001:db8::/32"], ports: [{from: 1, to: 9}], timeout: 1s}]
        defaults: {target: {unix: /run/x}, security: {block: [192.0.2.1], max_connections: 5}}
        routes:
          - {name: a, enabled: false, priority: -3,
             match: {ports: 1, listen: [127.0.0.1], domains: ["*.a.b"], client_ips: ["::/0"]},
             tls: {mode: terminate-and-reencrypt, certificate: internal, upstream: {verify: false, server_name: x.y}},
             action: {type: forward, targets: [{host: 10.0.0.1, port: 2}, {unix: s}], balance: failover, retries: 0}}
          - {name: b, match: {ports: 2}, action: {type: redirect, to: /x, status: 301}}
          - {name: c, match: {ports: 3}, action: {type: respond, headers: {a: b}, body: "x\\u00e9"}}
          - {name: d, match: {ports: 4}, action: {type: block, status: 404}}
          - {name: e, match: {ports: 5}, action: {type: mail, kind: smtps}, timeouts: {idle: 250ms}}
        email:
          hostname: mail.example.com
          postmaster: p@example.com
          require_tls: always
          trusted: [10.0.0.0/8, "fd00::/8"]
          auth:
            required: [submission]
            methods: [PLAIN]
            users:
              - name: a@example.com
                password_hash: &hash $argon2id$v=19$m=65536,t=3,p=4$c29tZXNhbHQ$RdescudvJCsgt3ub+b+dWQ
              - {name: b, password_hash: *hash, may_send_as: ["*@example.com", "re:.*@example\\\\.org"]}
            failures: {max: 3, within: 1m, ban: 2h}
          queue: {store: memory, max_size: 5, min_free_disk: 1KB, retry: {delay_notice: 0s}}
          bounces: {dsn: false, return: full}
          ports: [25, {port: 26, kind: smtps, listen: ["::1"], max_connections: 3}]
          rules:
            - name: x
              match: {recipients: ["re:.*@example\\\\.com"], clients: strangers}
              action: {type: forward, targets: [{host: h.test}]}
            - {name: y, match: {recipients: ["*@example.com"]}, action: {type: deliver, maildir: "m/{local}"}}
            - name: m
              match: {recipients: ["*@a.org"], senders: ["<>", "*@b.org"], client_ips: ["::1"], kinds: [smtp]}
              limits: {messages: {rate: 5/s, burst: 7}, max_recipients: 3}
              verify: {ask: target, cache: 5m}
              action: {type: forward, targets: [{host: h.test}], tls: required, auth: {user: u, password: s3cret}}
            - {name: n, match: {clients: may_relay, recipients: ["*@o.org"]}, limits: {messages: 9/day},
               action: {type: mta}}
            - {name: o, match: {recipients: ["*@l.org"]}, action: {type: deliver, lmtp: "[::1]:24"}}
            - {name: q, match: {recipients: ["*@q.org"]}, action: {type: deliver, lmtp: /run/lmtp}}
            - {name: z, action: {type: reject, code: 450, message: 4.1.1 later}}
        """

    def test_a_configuration_crosses_a_process_border(self) -> None:
        """As JSON, and comes out equal, with every kind of value in it."""
        config, _ = self.load(self.TEXT)
        plain = to_plain(config)
        self.assertEqual(json.loads(json.dumps(plain)), plain)
        back = from_plain(json.loads(json.dumps(plain)))
        self.assertEqual(back, config)
        assert back.email is not None
        action = next(rule.action for rule in back.email.rules if rule.name == "m")
        assert isinstance(action, MailForward) and action.auth is not None
        self.assertEqual((action.auth.password, repr(action.auth.password)), ("s3cret", "Secret(...)"))

    def test_ten_thousand_routes(self) -> None:
        """Are read, carried over and read again; how fast is measured in bench/, not here."""
        routes = "".join(
            f"  - name: r{number}\n"
            f"    match: {{ports: [443], domains: [h{number}.example.com, '*.h{number}.example.com']}}\n"
            f"    tls: {{mode: passthrough}}\n    action: {FORWARD}\n"
            for number in range(10_000)
        )
        config, warnings = self.load("routes:\n" + routes)
        self.assertEqual((len(config.routes), warnings), (10_000, []))
        self.assertEqual(from_plain(to_plain(config)), config)
        self.assertNotEqual(from_plain(to_plain(evolve(config, routes=config.routes[1:]))), config)

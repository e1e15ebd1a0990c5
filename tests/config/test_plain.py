"""A checked configuration on its way to the child processes."""

from __future__ import annotations

import json

from attrs import evolve

from dcrouter.config.load import from_plain, to_plain
from tests.config.written import FORWARD, FileTestCase


class PlainTests(FileTestCase):
    TEXT = """\
        version: 1
        listen: [127.0.0.1, "::1"]
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
          ports: [25, {port: 26, kind: smtps, listen: ["::1"], max_connections: 3}]
          rules:
            - name: x
              match: {recipients: ["re:.*@example\\\\.com"], clients: strangers}
              action: {type: forward, targets: [{host: h.test}]}
            - {name: y, match: {recipients: ["*@example.com"]}, action: {type: deliver, maildir: "m/{local}"}}
            - {name: z, action: {type: reject, code: 450, message: 4.1.1 later}}
        """

    def test_a_configuration_crosses_a_process_border(self) -> None:
        """As JSON, and comes out equal, with every kind of value in it."""
        config, _ = self.load(self.TEXT)
        plain = to_plain(config)
        self.assertEqual(json.loads(json.dumps(plain)), plain)
        self.assertEqual(from_plain(json.loads(json.dumps(plain))), config)

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

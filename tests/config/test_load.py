"""From a file to a checked value: what holds where nothing is said, and what short forms stand for."""

from __future__ import annotations

import os
from ipaddress import ip_address, ip_network
from pathlib import Path

from dcrouter.config.actions import Block, Forward, MailHandover, Redirect, Respond
from dcrouter.config.load import load
from dcrouter.config.mail import MailPort
from dcrouter.config.match import PortRange
from dcrouter.config.queue import Retry
from dcrouter.config.routes import Timeouts
from dcrouter.config.security import RouteSecurity, Security
from dcrouter.config.targets import SimpleTarget, Target
from tests.config.written import FORWARD, FileTestCase


class DefaultsTests(FileTestCase):
    def test_an_empty_configuration_has_the_defaults_of_the_contract(self) -> None:
        """As written in the brackets of the contract."""
        config, warnings = self.load("version: 1\n")
        self.assertEqual(warnings, ["1:1: there is neither `routes` nor `email`: nothing is listened on"])
        self.assertEqual(config.listen, (ip_address("0.0.0.0"), ip_address("::")))
        self.assertEqual(config.state_dir, self.directory / "state")
        self.assertEqual(config.admin.socket, self.directory / "state/admin.sock")
        self.assertEqual((config.log.level, config.log.format, config.log.file), ("info", "json", None))
        self.assertEqual((config.tls.min_version, config.tls.ciphers), ("TLSv1.2", "intermediate"))
        self.assertEqual(
            config.defaults.timeouts,
            Timeouts(hello=5, connect=5, idle=3600, half_closed=600, lifetime=0, drain=30),
        )
        self.assertEqual(config.http.request_timeout, 30)

    def test_mail_has_the_defaults_of_the_contract(self) -> None:
        """As written in the brackets of the contract."""
        email = self.config("email: {hostname: Mail.Example.com.}").email
        assert email is not None
        self.assertEqual(email.hostname, "mail.example.com")
        self.assertEqual(
            [(port.port, port.kind) for port in email.ports], [(25, "smtp"), (587, "submission"), (465, "smtps")]
        )
        self.assertEqual((email.max_message_size, email.max_recipients), (50 * 1024 * 1024, 1000))
        self.assertEqual(email.security, Security(max_connections_per_ip=50))
        self.assertEqual((email.default_action.code, email.default_action.message), (550, "5.7.1 Relaying denied"))
        self.assertEqual(email.queue.retry, Retry(base=300, max=14400, max_age=432000, jitter=0.2))

    def test_a_route_takes_each_timeout_from_itself_or_from_the_defaults(self) -> None:
        """One by one, wherever `defaults` stands in the file."""
        config = self.config(
            f"""\
            routes:
              - {{name: a, match: {{ports: 1}}, action: {FORWARD}, timeouts: {{idle: 10m}}}}
              - {{name: b, match: {{ports: 2}}, action: {FORWARD}}}
            defaults: {{timeouts: {{idle: 1s, hello: 2s}}}}
            """
        )
        own, inherited = (route.timeouts for route in config.routes)
        self.assertEqual(inherited, Timeouts(idle=1, hello=2))
        self.assertEqual(own, Timeouts(idle=600, hello=2))

    def test_security_of_a_route(self) -> None:
        """`allow` replaces, `block` adds up, counters of the defaults stay there."""
        config = self.config(
            f"""\
            defaults:
              security: {{allow: [10.0.0.0/8], block: [10.1.0.0/16], max_connections: 9, max_connections_per_ip: 8}}
            routes:
              - {{name: a, match: {{ports: 1}}, action: {FORWARD}}}
              - name: b
                match: {{ports: 2}}
                action: {FORWARD}
                security: {{allow: ["::/0"], block: [10.2.0.0/16, 10.1.0.0/16]}}
              - {{name: c, match: {{ports: 3}}, action: {FORWARD}, security: {{max_connections: 3}}}}
            """
        )
        ten, one, two = ip_network("10.0.0.0/8"), ip_network("10.1.0.0/16"), ip_network("10.2.0.0/16")
        self.assertEqual(
            [route.security for route in config.routes],
            [
                RouteSecurity(allow=(ten,), block=(one,)),
                RouteSecurity(allow=(ip_network("::/0"),), block=(one, two)),
                RouteSecurity(allow=(ten,), block=(one,), max_connections=3),
            ],
        )
        self.assertEqual(config.defaults.security.max_connections, 9)

    def test_mail_security_starts_from_its_own_default(self) -> None:
        """50 connections for each address, unless told."""
        email = self.config("email: {hostname: a.b, security: {max_connections: 7}}").email
        assert email is not None
        self.assertEqual(email.security, Security(max_connections=7, max_connections_per_ip=50))

    def test_relative_paths(self) -> None:
        """What is read starts at the file's directory, what is written at state_dir, wherever that is said."""
        config = self.config(
            """\
            log: {file: router.log}
            access_log: {file: /var/log/access.log}
            admin: {socket: a.sock}
            routes: [{name: a, match: {ports: 1}, action: {type: forward, target: {unix: run/app.sock}}}]
            state_dir: data
            """
        )
        self.assertEqual(config.state_dir, self.directory / "data")
        self.assertEqual(config.log.file, self.directory / "data/router.log")
        self.assertEqual(config.admin.socket, self.directory / "data/a.sock")
        assert config.access_log is not None and isinstance(config.routes[0].action, Forward)
        self.assertEqual(config.access_log.file, Path("/var/log/access.log"))
        self.assertEqual(config.routes[0].action.targets, (Target(unix=self.directory / "run/app.sock"),))

    def test_variables_get_their_type_after_expansion(self) -> None:
        """Numbers, booleans and lists of them."""
        config = self.config(
            """\
            routes:
              - name: ${NAME}
                enabled: ${ON}
                match: {ports: ["${PORT}"]}
                action: {type: "${TYPE:-forward}", target: {host: "${HOST}", port: "${PORT}"}}
            """,
            {"NAME": "1", "ON": "false", "PORT": "8080", "HOST": "127.0.0.1"},
        )
        (route,) = config.routes
        self.assertEqual(
            (route.name, route.enabled, route.match.ports), ("1", False, (PortRange(start=8080, end=8080),))
        )
        self.assertEqual(route.action, Forward(targets=(Target(host="127.0.0.1", port=8080),)))

    def test_the_environment_is_the_process_s_own(self) -> None:
        """Unless another is given."""
        Path("routes.yaml").write_text("state_dir: ${DCROUTER_TEST_STATE}\n")
        os.environ["DCROUTER_TEST_STATE"] = "/srv/x"
        self.addCleanup(os.environ.pop, "DCROUTER_TEST_STATE")
        self.assertEqual(load(Path("routes.yaml")).state_dir, Path("/srv/x"))


class ShortFormTests(FileTestCase):
    def test_ports(self) -> None:
        """A number, a range, a list of both."""
        config = self.config(
            f"""\
            routes:
              - {{name: a, match: {{ports: 1}}, action: {FORWARD}}}
              - {{name: b, match: {{ports: {{from: 2, to: 3}}}}, action: {FORWARD}}}
              - {{name: c, match: {{ports: [4, {{from: 5, to: 6}}]}}, action: {FORWARD}}}
            """
        )
        self.assertEqual(
            [[(ports.start, ports.end) for ports in route.match.ports] for route in config.routes],
            [[(1, 1)], [(2, 3)], [(4, 4), (5, 6)]],
        )

    def test_one_target(self) -> None:
        """`target` is short for a list of one; `preserve` keeps the port."""
        config = self.config(
            """\
            routes:
              - {name: a, match: {ports: 1}, action: {type: forward, target: {host: A.test, port: preserve}}}
            """
        )
        self.assertEqual(config.routes[0].action, Forward(targets=(Target(host="a.test"),)))

    def test_mail_ports(self) -> None:
        """The kind goes by the number, and is smtp for all others."""
        email = self.config(
            """\
            email:
              hostname: a.b
              trusted: [10.0.0.0/8]
              ports: [465, 2525, {port: 1587, kind: submission, listen: ["::1"], max_connections: 5}]
            """
        ).email
        assert email is not None
        self.assertEqual(
            email.ports,
            (
                MailPort(port=465, kind="smtps"),
                MailPort(port=2525, kind="smtp"),
                MailPort(port=1587, kind="submission", listen=(ip_address("::1"),), max_connections=5),
            ),
        )

    def test_every_action(self) -> None:
        """With their defaults."""
        config = self.config(
            """\
            routes:
              - {name: a, match: {ports: 1}, action: {type: redirect, to: "https://{host}{uri}"}}
              - {name: b, match: {ports: 2}, action: {type: respond, body: 42, headers: {x-a: no}}}
              - {name: c, match: {ports: 3}, action: {type: block}}
              - {name: d, match: {ports: 4}, action: {type: block, status: 404}}
              - {name: e, match: {ports: 5}, action: {type: mail, kind: smtps}}
            email: {hostname: mx.test}
            """
        )
        self.assertEqual(
            [route.action for route in config.routes],
            [
                Redirect(to="https://{host}{uri}", status=308),
                Respond(status=200, body="42", headers={"x-a": "no"}),
                Block(status=403),
                Block(status=404, answers=True),
                MailHandover(kind="smtps"),
            ],
        )

    def test_mail_targets_have_port_25(self) -> None:
        """Unless told; and postmaster's mail finds its rule."""
        email = self.config(
            """\
            email:
              hostname: a.b
              postmaster: Boss@Example.com
              rules:
                - name: in
                  match: {recipients: ["*@example.com"]}
                  action: {type: forward, targets: [{host: m.test}, {host: n.test, port: 26}]}
            """
        ).email
        assert email is not None
        action = email.rules[0].action
        self.assertEqual(
            getattr(action, "targets", None),
            (SimpleTarget(host="m.test", port=25), SimpleTarget(host="n.test", port=26)),
        )
        self.assertEqual(email.postmaster, "Boss@example.com")

    def test_nothing_unsets_an_optional_scalar(self) -> None:
        """So that a variable may be empty."""
        config = self.config(
            f"""\
            routes: [{{name: a, match: {{ports: 1}}, action: {FORWARD}, security: {{max_connections: ~}}}}]
            user: ${{U:-}}
            """
        )
        self.assertEqual((config.user, config.routes[0].security.max_connections), (None, None))

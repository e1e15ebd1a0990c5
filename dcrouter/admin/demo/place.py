"""Where a demo lives: a temporary directory with its routes.yaml, free loopback ports, a certificate for a backend."""

from __future__ import annotations

import socket
import time
from pathlib import Path

from attrs import frozen

from dcrouter.tls.credential import Credential
from dcrouter.tls.internal import InternalCa

HOST = "127.0.0.1"
MAIL_NAME = "mail.localhost"
HERE = "here.example.test"
"""Whose mail ends in Maildirs."""
THERE = "there.example.test"
"""Whose mail goes on to the next hop."""
BACKEND_NAME = "backend.localhost"
"""What the TLS backend proves to be when the router speaks TLS to it."""
PASSTHROUGH_NAME = "passthrough.localhost"

TEMPLATE = """\
# What `dcrouter demo` runs on: one route of each kind, and mail. docs/configuration.md explains every key.
version: 1
listen: [127.0.0.1]
log: {{format: text}}
access_log: {{file: access.log}}
defaults: {{timeouts: {{drain: 2s}}}}

routes:
  # Plain HTTP on one port: the Host of the request tells the routes apart.
  - name: plain
    match: {{ports: [{http}], domains: [plain.localhost]}}
    action: {{type: forward, target: {{host: 127.0.0.1, port: {web}}}}}

  - name: redirect
    match: {{ports: [{http}], domains: [redirect.localhost]}}
    action: {{type: redirect, to: "https://respond.localhost:{https}{{uri}}"}}

  - name: block
    match: {{ports: [{http}], domains: [block.localhost]}}
    action: {{type: block, status: 403}}

  # TLS on one port: the SNI of the ClientHello tells them apart.
  - name: passthrough                  # the backend ends TLS, with its own certificate
    match: {{ports: [{https}], domains: [passthrough.localhost]}}
    tls: {{mode: passthrough}}
    action: {{type: forward, target: {{host: 127.0.0.1, port: {secure_web}}}}}

  - name: terminate                    # the router ends TLS, with a certificate of its internal CA
    match: {{ports: [{https}], domains: [terminate.localhost]}}
    tls: {{mode: terminate}}
    action: {{type: forward, target: {{host: 127.0.0.1, port: {web}}}}}

  - name: reencrypt                    # the router ends TLS, and begins it anew; the target must prove its name
    match: {{ports: [{https}], domains: [reencrypt.localhost]}}
    tls:
      mode: terminate-and-reencrypt
      upstream: {{server_name: backend.localhost, ca: backends/internal-ca/ca.pem}}
    action: {{type: forward, target: {{host: 127.0.0.1, port: {secure_web}}}}}

  - name: respond
    match: {{ports: [{https}], domains: [respond.localhost]}}
    tls: {{mode: terminate}}
    action: {{type: respond, body: "hello from the router itself\\n"}}

email:
  hostname: mail.localhost
  postmaster: postmaster@here.example.test
  ports: [{{port: {smtp}, kind: smtp}}]
  rules:
    - name: mailboxes
      match: {{recipients: ["*@here.example.test"]}}
      action: {{type: deliver, maildir: "maildir/{{recipient}}"}}
    - name: onwards
      match: {{recipients: ["*@there.example.test"]}}
      action: {{type: forward, targets: [{{host: 127.0.0.1, port: {next_hop}}}]}}
"""


@frozen(kw_only=True)
class Ports:
    """`http`, `https` and `smtp` are the router's; `web`, `secure_web` and `next_hop` those of the backends."""

    http: int
    https: int
    smtp: int
    web: int
    secure_web: int
    next_hop: int


@frozen
class Place:
    """The demo's directory; who made it removes it."""

    directory: Path

    @property
    def config(self) -> Path:
        return self.directory / "routes.yaml"

    @property
    def state(self) -> Path:
        return self.directory / "state"

    @property
    def admin_socket(self) -> Path:
        return self.state / "admin.sock"

    @property
    def access_log(self) -> Path:
        return self.state / "access.log"

    @property
    def router_log(self) -> Path:
        return self.directory / "router.log"

    @property
    def router_ca(self) -> Path:
        """Whom clients of terminating routes trust; the router makes it at its start."""
        return self.state / "internal-ca" / "ca.pem"

    @property
    def backends_ca(self) -> Path:
        """Whom clients of the passthrough route trust, and the router on the way to the TLS backend."""
        return self.directory / "backends" / "internal-ca" / "ca.pem"

    def maildir(self, recipient: str) -> Path:
        return self.state / "maildir" / recipient

    def certify_backend(self) -> Credential:
        """A certificate for the TLS backend, from a CA that is not the router's own."""
        (self.directory / "backends").mkdir(mode=0o700)
        return InternalCa(self.directory / "backends", time.time).issue([BACKEND_NAME, PASSTHROUGH_NAME])

    def write_config(self, ports: Ports) -> None:
        self.config.write_text(
            TEMPLATE.format(
                http=ports.http,
                https=ports.https,
                smtp=ports.smtp,
                web=ports.web,
                secure_web=ports.secure_web,
                next_hop=ports.next_hop,
            )
        )


def free_ports(count: int) -> list[int]:
    """Loopback ports that nobody used a moment ago, each another one."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind((HOST, 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()

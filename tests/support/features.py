"""Routes as an operator writes them, in an edge in this process, asked by curl."""

from __future__ import annotations

import subprocess
from ipaddress import ip_address
from pathlib import Path
from textwrap import dedent

from attrs import evolve, frozen

from dcrouter.config.admin import Config
from dcrouter.config.load import load_with_warnings
from dcrouter.control.trust import read_ca_files
from dcrouter.net.slices import finished
from dcrouter.proxy.plan import Plan
from tests.support.edge import Backend, EdgeTest
from tests.support.peers import require
from tests.support.threaded import Talk
from tests.support.web import Message, each, ok

SOCKET = "/run/admin.sock"
"""Nobody opens it; beside the test's own files its path would be too long."""


@frozen
class Answer:
    """What curl got: `status` of the last response, `headers` of it by their names in lower case, `body`."""

    status: int
    headers: dict[str, list[str]]
    body: bytes

    def get(self, name: str) -> str | None:
        """The value of a header that is there once, None where it is not there."""
        values = self.headers.get(name, [])
        assert len(values) < 2, values
        return values[0] if values else None


class FeatureTest(EdgeTest):
    """`self.serve(text)` opens an edge with those routes."""

    def setUp(self) -> None:
        super().setUp()
        self.seen: list[Message] = []

    def echo(self, *lines: bytes) -> Backend:
        """A backend that says which request line it saw, and notes the whole request in `seen`; `lines`: its fields."""

        def answer(asked: Message) -> bytes:
            self.seen.append(asked)
            return ok(asked.first, *lines)

        return self.backend(each(answer))

    def backend(self, talk: Talk) -> Backend:
        return Backend(self, talk)

    def config(self, text: str) -> Config:
        """What `routes: ` and this text mean, in a file beside the test's other files."""
        path = self.directory / "routes.yaml"
        path.write_text(f"admin: {{socket: {SOCKET}}}\nroutes:\n{dedent(text)}", "utf-8")
        config, warnings = load_with_warnings(path, {})
        self.assertEqual(warnings, ())
        return config

    def serve(self, text: str) -> int:
        """An edge with these routes; PORT in the text is the port, which is given back."""
        port = self.port()
        config = self.config(text.replace("PORT", str(port)))
        files = {path: text.encode() for path, text in read_ca_files(config).items()}
        self.open(*config.routes, http=config.http, defaults=config.defaults, ca_files=files)
        return port

    def planned(self, config: Config) -> Plan:
        """What an edge makes of another configuration, as in a reload."""
        return finished(self.edge.prepare(evolve(config, listen=(ip_address("127.0.0.1"),)), {}))

    def curl(self, url: str, *options: str, tls: bool = False) -> Answer:
        """One transfer; `tls`: with the internal authority."""
        head, body = self.directory / "head", self.directory / "body"
        body.unlink(missing_ok=True)
        trust = ("--cacert", str(self.directory / "internal-ca" / "ca.pem")) if tls else ()
        argv = [require("curl"), "-sS", "--max-time", "20", "-D", str(head), "-o", str(body), *trust, *options, url]
        done = self.client(lambda: subprocess.run(argv, capture_output=True, check=False, timeout=240))
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        return answer_of(head.read_bytes(), body.read_bytes() if body.exists() else b"")

    def at_target(self, port: int, *options: str, path: str = "/") -> Message:
        """What the target sees of a request that is let through."""
        self.seen.clear()
        self.assertEqual(self.curl(f"http://a.example:{port}{path}", *resolved(port), *options).status, 200)
        return self.seen[0]


def resolved(port: int, *names: str) -> tuple[str, ...]:
    """curl's options to find these names (a.example) here."""
    return tuple(part for name in names or ("a.example",) for part in ("--resolve", f"{name}:{port}:127.0.0.1"))


def answer_of(head: bytes, body: bytes) -> Answer:
    last = head.decode("latin-1").strip().split("\r\n\r\n")[-1].split("\r\n")
    headers: dict[str, list[str]] = {}
    for line in last[1:]:
        name, _, value = line.partition(":")
        headers.setdefault(name.lower(), []).append(value.strip())
    return Answer(int(last[0].split(" ")[1]), headers, body)


def written(directory: Path, name: str, data: bytes | str) -> Path:
    """A file with this in it."""
    path = directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path

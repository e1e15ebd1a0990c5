"""The sides: each gets the same frontends to serve, in its own configuration language, and one core to do it on.

Equal work: the same bytes are forwarded at the TCP level on every side, the same certificate and TLS 1.3 where TLS is
terminated, the same name asked for where it is passed through, HAProxy told to splice, no logs unless the row says so.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from attrs import frozen

from bench import web
from bench.backend import STREAM_MODULE, Certificate
from bench.hello import SNI
from bench.machine import find
from bench.place import HERE, Place
from bench.process import Failed, Program, command, tree

Mode = Literal["plain", "passthrough", "terminate", "http", "https"]
NAMES = ("haproxy", "nginx", "caddy", "dcrouter")
TCP_NAMES = ("haproxy", "nginx", "dcrouter")
"""Those that forward bytes; Caddy speaks HTTP only."""
CONNECTIONS = 4000  # the most that a side is set up for; the rows use 3 000
UNCHECKED = "{spf: false, dkim: false, dmarc: ignore, arc: false, iprev: false}"
"""What dcrouter does where others check nothing either."""


@frozen(kw_only=True)
class Frontend:
    """One port of a side, and the (host, port) that it forwards to. `names`: how many routes with names of their own,
    one in eleven of them with a wildcard, share the port with the one that is asked for; only dcrouter has such.
    """

    mode: Mode
    port: int
    target: tuple[str, int]
    names: int = 0

    @property
    def name(self) -> str:
        return f"{self.mode}_{self.port}"


@frozen(kw_only=True)
class MailSetup:
    """A mail port whose messages for example.test go to a next hop; only dcrouter has one. `dns`: the port of the name
    server by which mail is checked, 0: it is not.
    """

    port: int
    sink: tuple[str, int]
    dns: int = 0


@frozen(kw_only=True)
class Task:
    """What a side is to serve. `directory` is its own, empty."""

    directory: Path
    certificate: Certificate
    frontends: Sequence[Frontend]
    place: Place = HERE
    access_log: bool = False
    mail: MailSetup | None = None
    cores: frozenset[int] | None = None


class Side:
    """A started proxy. `processes` are all of it: (pid, start)."""

    def __init__(self, name: str, program: Program, children: int) -> None:
        self.name = name
        self._program = program
        end = time.monotonic() + 60  # 11 000 routes take a while on a busy machine
        while len(tree(program.pid)) <= children and time.monotonic() < end:
            program.check()
            time.sleep(0.05)
        self.processes = tree(program.pid)
        if len(self.processes) <= children:
            self.stop()
            raise Failed(f"{name} has {len(self.processes) - 1} children instead of {children}: {program.tail()}")

    def settle(self) -> None:
        """Look again which processes there are, once it is known that all of them work."""
        self.processes = tree(self._program.pid)

    def role(self, role: str) -> list[tuple[int, int]]:
        """Those of its processes whose command line ends with this word (dcrouter: edge, mail)."""
        return [process for process in self.processes if command(process[0])[-1:] == [role]]

    def check(self) -> None:
        """Failed where it has ended."""
        self._program.check()

    def stop(self) -> None:
        self._program.stop()


def obstacle(name: str) -> str | None:
    """Why this side cannot be measured here, or None."""
    if name == "dcrouter":
        return None if dcrouter_command() else "dcrouter is not installed beside this Python"
    if find(name) is None:
        return f"{name} is not installed"
    if name == "nginx" and not STREAM_MODULE.exists():
        return "nginx has no stream module (Debian: libnginx-mod-stream)"
    return None


def start(name: str, task: Task) -> Side:
    """Start one side; its owner stops it. Failed, with its last words, where it does not come up."""
    return _STARTERS[name](task)


def _spawn(task: Task, *argv: str) -> Program:
    return Program([*task.place.prefix, *argv], task.directory / "output.log", task.cores)


def _haproxy(task: Task) -> Side:
    lines = ["global", "  nbthread 1", f"  maxconn {CONNECTIONS}"]
    if task.access_log:
        lines.append("  log stdout format raw local0 info")  # standard output is a file
    lines += ["defaults", "  mode tcp", "  timeout connect 5s", "  timeout client 1h", "  timeout server 1h"]
    lines += ["  option splice-request", "  option splice-response"]
    if task.access_log:
        lines += ["  log global", "  option tcplog"]
    for front in task.frontends:
        lines += [f"frontend {front.name}", f"  bind {task.place.host}:{front.port}"]
        if front.mode in ("terminate", "https"):
            lines[-1] += f" ssl crt {task.certificate.both} ssl-min-ver TLSv1.3 curves X25519:P-256"
        if front.mode == "passthrough":
            lines += ["  tcp-request inspect-delay 5s", "  tcp-request content accept if { req.ssl_hello_type 1 }"]
            lines.append(f"  use_backend to_{front.name} if {{ req.ssl_sni -i {SNI} }}")
        else:
            lines.append(f"  default_backend to_{front.name}")
        if front.mode in web.MODES:
            lines += ["  mode http", "  option forwardfor"]
        lines += [f"backend to_{front.name}", f"  server target {front.target[0]}:{front.target[1]}"]
        if front.mode in web.MODES:
            lines.append("  mode http")
    config = task.directory / "haproxy.cfg"
    config.write_text("\n".join(lines) + "\n")
    return Side("haproxy", _spawn(task, find("haproxy") or "haproxy", "-db", "-f", str(config)), children=0)


def _nginx(task: Task) -> Side:
    here, certificate = task.directory, task.certificate
    servers = []
    for front in [one for one in task.frontends if one.mode not in web.MODES]:
        listen = f"listen {task.place.host}:{front.port} backlog=4096"
        target = f"{front.target[0]}:{front.target[1]}"
        if front.mode == "passthrough":
            servers.append(f"map $ssl_preread_server_name $to_{front.port} {{ {SNI} {target}; }}")
            servers.append(f"server {{ {listen}; ssl_preread on; proxy_pass $to_{front.port}; }}")
        else:
            servers.append(f"server {{ {listen}{' ssl' if front.mode == 'terminate' else ''}; proxy_pass {target}; }}")
    form = (
        "$remote_addr $time_iso8601 $server_port $ssl_protocol $upstream_addr $bytes_sent $bytes_received $session_time"
    )
    config = here / "nginx.conf"
    config.write_text(
        f"""load_module {STREAM_MODULE};
user root;
daemon off;
worker_processes 1;
worker_rlimit_nofile {CONNECTIONS * 3};
pid {here}/nginx.pid;
error_log {here}/error.log warn;
events {{ worker_connections {CONNECTIONS * 2 + 64}; }}
stream {{
  log_format short '{form}';
  access_log {f"{here}/access.log short" if task.access_log else "off"};
  proxy_connect_timeout 5s;
  proxy_timeout 1h;
  ssl_certificate {certificate.chain};
  ssl_certificate_key {certificate.key};
  ssl_protocols TLSv1.3;
  ssl_ecdh_curve X25519:prime256v1;
  {(chr(10) + "  ").join(servers)}
}}
{web.nginx(task, [one for one in task.frontends if one.mode in web.MODES])}
"""
    )
    argv = (find("nginx") or "nginx", "-p", str(here), "-e", str(here / "error.log"), "-c", str(config))
    return Side("nginx", _spawn(task, *argv), children=1)


def _caddy(task: Task) -> Side:
    config = web.caddy_config(task)
    home = {"HOME": str(task.directory), "GOMAXPROCS": "1"}
    argv = [*task.place.prefix, find("caddy") or "caddy", "run", "--config", str(config), "--adapter", "caddyfile"]
    return Side("caddy", Program(argv, task.directory / "output.log", task.cores, environment=home), children=0)


def dcrouter_command() -> str | None:
    """The command that belongs to the Python which runs this, or else any on PATH."""
    beside = Path(sys.executable).with_name("dcrouter")
    return str(beside) if beside.exists() else shutil.which("dcrouter")


_TLS = {
    "plain": "",
    "passthrough": "    tls: {mode: passthrough}\n",
    "terminate": "    tls: {mode: terminate, certificate: {cert: CHAIN, key: KEY}}\n",
    "http": "    protocol: http\n",
    "https": "    protocol: http\n    tls: {mode: terminate, certificate: {cert: CHAIN, key: KEY}}\n",
}


def routes_yaml(task: Task) -> str:
    """The file that dcrouter is started with."""
    certificate = task.certificate
    text = f"""version: 1
state_dir: state
listen: ["{task.place.host}"]
log: {{level: warn, format: text, file: dcrouter.log}}
tls: {{min_version: TLSv1.3}}
certificates: {{files: [{{cert: {certificate.chain}, key: {certificate.key}}}]}}
"""
    if task.access_log:
        text += "access_log: {file: access.log}\n"
    text += "routes:\n"
    for front in task.frontends:
        domains = f', domains: ["{SNI}"]' if front.mode == "passthrough" else ""
        tls = _TLS[front.mode].replace("CHAIN", str(certificate.chain)).replace("KEY", str(certificate.key))
        text += f"  - name: {front.name}\n    match: {{ports: [{front.port}]{domains}}}\n{tls}"
        forward = f'{{type: forward, target: {{host: "{front.target[0]}", port: {front.target[1]}}}}}'
        text += f"    action: {forward}\n"
        for at in range(front.names):
            name = f"h{at}.example.test" if at % 11 else f"*.w{at}.example.test"
            text += f'  - {{name: {front.name}_{at}, match: {{ports: [{front.port}], domains: ["{name}"]}},'
            text += f" tls: {{mode: passthrough}}, action: {forward}}}\n"
    if task.mail is not None:
        checked = "{dmarc: enforce}" if task.mail.dns else UNCHECKED
        servers = f'resolver: {{servers: ["127.0.0.1:{task.mail.dns}"]}}\n' if task.mail.dns else ""
        text += f"""{servers}email:
  hostname: {SNI}
  postmaster: postmaster@example.test
  ports: [{{port: {task.mail.port}, kind: smtp}}]
  authentication_results: {checked}
  security: {{max_connections_per_ip: 1000}}
  rules:
    - name: sink
      match: {{recipients: ["*@example.test"]}}
      action: {{type: forward, targets: [{{host: "{task.mail.sink[0]}", port: {task.mail.sink[1]}}}]}}
"""
    return text


def _start_dcrouter(task: Task) -> Side:
    config = task.directory / "routes.yaml"
    config.write_text(routes_yaml(task))
    program = dcrouter_command()
    assert program is not None
    return Side(
        "dcrouter", _spawn(task, program, "run", "--config", str(config)), children=1 if task.mail is None else 2
    )


_STARTERS: dict[str, Callable[[Task], Side]] = {
    "haproxy": _haproxy,
    "nginx": _nginx,
    "caddy": _caddy,
    "dcrouter": _start_dcrouter,
}

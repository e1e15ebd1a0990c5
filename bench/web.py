"""HTTP-aware frontends, for the rows that compare what reads requests: the same few lines on every side.

Each forwards to one target on connections that it keeps, tells it the client by X-Forwarded-For, and logs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.peers import Frontend, Task

MODES = ("http", "https")


def nginx(task: Task, fronts: Sequence[Frontend]) -> str:
    """nginx's `http` block."""
    here, certificate = task.directory, task.certificate
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    scratch = " ".join(f"{kind}_temp_path {here}/{kind};" for kind in kinds)
    lines = [
        f"http {{ {scratch}",
        "access_log off; sendfile on; keepalive_requests 1000000000; proxy_http_version 1.1;",
    ]
    lines.append('proxy_set_header Connection ""; proxy_set_header Host $http_host; proxy_buffering on;')
    lines.append("proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;")
    lines.append(f"ssl_certificate {certificate.chain}; ssl_certificate_key {certificate.key};")
    lines.append("ssl_protocols TLSv1.3; ssl_ecdh_curve X25519:prime256v1;")
    for front in fronts:
        target = f"{front.target[0]}:{front.target[1]}"
        ssl = " ssl" if front.mode == "https" else ""
        lines.append(f"upstream to_{front.port} {{ server {target}; keepalive 256; keepalive_requests 1000000000; }}")
        lines.append(f"server {{ listen {task.place.host}:{front.port}{ssl} backlog=4096;")
        lines.append(f"  location / {{ proxy_pass http://to_{front.port}; }} }}")
    return "\n".join([*lines, "}"])


def caddyfile(task: Task) -> str:
    """What Caddy is started with: every frontend, without its admin port and its own certificates."""
    certificate = task.certificate
    sites = []
    for front in task.frontends:
        lines = [f"{front.mode}://:{front.port} {{", f"  bind {task.place.host}"]
        if front.mode == "https":
            lines += [f"  tls {certificate.chain} {certificate.key} {{", "    protocols tls1.3", "  }"]
        lines += [f"  reverse_proxy {front.target[0]}:{front.target[1]} {{", "    transport http {"]
        lines += ["      keepalive_idle_conns_per_host 256", "    }", "  }", "}", ""]
        sites.append("\n".join(lines))
    return "{\n  admin off\n  auto_https off\n  servers {\n    protocols h1\n  }\n}\n" + "".join(sites)


def caddy_config(task: Task) -> Path:
    """The file with it."""
    path = task.directory / "Caddyfile"
    path.write_text(caddyfile(task))
    return path

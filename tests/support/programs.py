"""Servers that tests bring along as real programs: nginx, HAProxy and smtp-sink, each with a directory of its own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.support.certificates import Authority, write
from tests.support.peers import require
from tests.support.ports import Reserved
from tests.support.router import PATIENCE, until


class Program:
    """A server process that listens on `port`; `close` ends it. Its words are in `base`/log."""

    def __init__(
        self,
        argv: Sequence[str | Path],
        base: Path,
        port: int,
        keep: Sequence[Reserved],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """`environment`: beside what the tests have."""
        self.base = base
        self.port = port
        self._keep = keep
        env = {**os.environ, **(environment or {})}
        with (base / "log").open("wb") as log:
            self.process = subprocess.Popen(argv, cwd=base, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env)
        try:
            until(lambda: accepts(port) or self.process.poll() is not None)
            if self.process.poll() is not None:
                raise AssertionError(f"{argv[0]} has not started: {(base / 'log').read_text()}")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for one in self._keep:
            one.close()
        shutil.rmtree(self.base, ignore_errors=True)


NGINX = """
daemon off; master_process off; pid {base}/pid; error_log stderr; {user}
events {{ worker_connections 4096; }}
http {{
    log_format asked '$request_method $request_uri'; access_log {base}/access.log asked;
    client_body_temp_path {base}/body; proxy_temp_path {base}/proxy; fastcgi_temp_path {base}/fastcgi;
    uwsgi_temp_path {base}/uwsgi; scgi_temp_path {base}/scgi; client_max_body_size 0; keepalive_requests 100000;
    sendfile on; tcp_nodelay on;
    server {{
        listen 127.0.0.1:{plain};
        listen 127.0.0.1:{tls} ssl http2;
        ssl_certificate {base}/site.pem; ssl_certificate_key {base}/site.key; ssl_protocols TLSv1.2 TLSv1.3;
        root {base}/data;
        location = /hello {{ return 200 "hello over $server_protocol to $connection\\n"; }}
        location /up/ {{ dav_methods PUT; }}
    }}
}}
"""


class Nginx(Program):
    """`port` speaks plain HTTP, `tls` HTTPS with HTTP/2, for `names`: files under `data`, /hello, PUT to /up/.

    `ca`: a PEM file with the authority of its certificate. Its access log is a method and a target per line.
    """

    def __init__(self, *names: str) -> None:
        nginx = require("nginx")
        base = Path(tempfile.mkdtemp(prefix="nginx-"))
        plain, tls = Reserved(), Reserved()
        self.tls = tls.port
        self.data = base / "data"
        (self.data / "up").mkdir(parents=True)
        authority = Authority()
        write(authority.credential(list(names)), base, "site")
        self.ca = base / "ca.pem"
        self.ca.write_bytes(authority.root_pem)
        user = "user root;" if os.geteuid() == 0 else ""
        (base / "nginx.conf").write_text(NGINX.format(base=base, plain=plain.port, tls=tls.port, user=user))
        super().__init__([nginx, "-p", str(base), "-c", str(base / "nginx.conf")], base, plain.port, (plain, tls))


class HAProxy(Program):
    """Listens on `port` and sends every connection to `target`, with `header` (send-proxy, send-proxy-v2)."""

    def __init__(self, target: int, header: str) -> None:
        haproxy = require("haproxy")
        base = Path(tempfile.mkdtemp(prefix="haproxy-"))
        front = Reserved()
        (base / "haproxy.cfg").write_text(
            "defaults\n mode tcp\n timeout connect 60s\n timeout client 120s\n timeout server 120s\n"
            f"listen front\n bind 127.0.0.1:{front.port}\n server router 127.0.0.1:{target} {header}\n"
        )
        super().__init__([haproxy, "-db", "-f", str(base / "haproxy.cfg")], base, front.port, (front,))


class SmtpSink(Program):
    """Postfix's smtp-sink on `port` (None: one of its own); keeps each message as a file under `dump`."""

    def __init__(self, port: int | None = None, options: Sequence[str] = ()) -> None:
        sink = require("smtp-sink")
        base = Path(tempfile.mkdtemp(prefix="sink-"))
        own = Reserved() if port is None else None
        self.dump = base / "dump"
        self.dump.mkdir()
        at = own.port if own is not None else port
        assert at is not None
        user = ("-u", "root") if os.geteuid() == 0 else ()
        argv = [sink, *user, "-d", "dump/%M.", *options, f"127.0.0.1:{at}", "1000"]
        super().__init__(argv, base, at, (own,) if own is not None else ())

    def messages(self) -> list[bytes]:
        """What has arrived so far."""
        return [path.read_bytes() for path in sorted(self.dump.iterdir()) if path.is_file()]


def accepts(port: int) -> bool:
    """Whether somebody listens there, on loopback."""
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True

"""What stands behind the proxies, and the certificate that all sides show: nginx whose answers cost little.

Its ports: `web` (GET /small, 128 bytes; GET /bulk, a file by sendfile), `tls` (the same over TLS 1.3), `hello` (waits
for a ClientHello, then answers as a web server would: a TLS backend without the price of a handshake).
"""

from __future__ import annotations

import os
import ssl
import subprocess
from pathlib import Path

from attrs import frozen

from bench.hello import SNI
from bench.machine import find
from bench.place import Place, free_port
from bench.process import Failed, Program

STREAM_MODULE = Path("/usr/lib/nginx/modules/ngx_stream_module.so")
BULK_BYTES = 256 << 20  # larger than a cache, small enough to stay in memory
_SMALL = "x" * 128


@frozen(kw_only=True)
class Certificate:
    """One ECDSA P-256 certificate for all sides; `both` is chain and key in one file."""

    chain: Path
    key: Path
    both: Path

    def serving(self) -> ssl.SSLContext:
        """For a server that shows it."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.chain, self.key)
        return context


def make_certificate(directory: Path) -> Certificate:
    """A self-signed one for `localhost`."""
    chain, key, both = (directory / name for name in ("cert.pem", "key.pem", "both.pem"))
    argv = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30"]
    argv += ["-subj", f"/CN={SNI}", "-addext", f"subjectAltName=DNS:{SNI}", "-keyout", str(key), "-out", str(chain)]
    subprocess.run(argv, capture_output=True, check=True, timeout=20)
    both.write_text(chain.read_text() + key.read_text())
    return Certificate(chain=chain, key=key, both=both)


def make_bulk(directory: Path) -> None:
    """The file of downloads, `directory`/data/bulk."""
    (directory / "data").mkdir()
    with (directory / "data" / "bulk").open("wb") as file:
        for _ in range(BULK_BYTES >> 20):
            file.write(os.urandom(1 << 20))


class Backend:
    """Two nginx of one worker each, on the load makers' core.

    The one that serves downloads has a lower priority, so that what a small request waits for beside them is the proxy
    and not the backend.
    """

    def __init__(self, directory: Path, certificate: Certificate, place: Place, cores: frozenset[int] | None) -> None:
        self._programs: list[Program] = []
        self.host = place.host
        try:
            self.web, self.tls, self.hello = self._start(directory, "small", certificate, place, cores, 0)
            self.bulk_web, self.bulk_tls, _ = self._start(directory, "bulk", certificate, place, cores, 10)
        except BaseException:
            self.stop()
            raise

    def _start(
        self,
        directory: Path,
        name: str,
        certificate: Certificate,
        place: Place,
        cores: frozenset[int] | None,
        nice: int,
    ) -> tuple[int, int, int]:
        here = directory / f"backend-{name}"
        here.mkdir()
        web, tls, hello = free_port(), free_port(), free_port()
        config = here / "nginx.conf"
        scratch = "\n".join(
            f"  {kind}_temp_path {here}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        answer = f"HTTP/1.1 200 OK\\r\\nContent-Length: {len(_SMALL)}\\r\\nConnection: close\\r\\n\\r\\n{_SMALL}"
        config.write_text(
            f"""load_module {STREAM_MODULE};
user root;
daemon off;
worker_processes 1;
worker_rlimit_nofile 8192;
pid {here}/nginx.pid;
error_log {here}/error.log warn;
events {{ worker_connections 8192; }}
http {{
{scratch}
  access_log off;
  sendfile on;
  keepalive_requests 1000000000;
  ssl_certificate {certificate.chain};
  ssl_certificate_key {certificate.key};
  ssl_protocols TLSv1.3;
  server {{
    listen {place.host}:{web} backlog=4096;
    listen {place.host}:{tls} ssl backlog=4096;
    root {directory}/data;
    location = /small {{ return 200 "{_SMALL}"; }}
  }}
}}
stream {{
  server {{ listen {place.host}:{hello} backlog=4096; ssl_preread on; return "{answer}"; }}
}}
"""
        )
        program = find("nginx")
        if program is None or not STREAM_MODULE.exists():
            raise Failed("the backend needs nginx and libnginx-mod-stream")
        argv = [*place.prefix, program, "-p", str(here), "-e", str(here / "error.log"), "-c", str(config)]
        self._programs.append(Program(argv, here / "output.log", cores, nice=nice))
        return web, tls, hello

    def check(self) -> None:
        for program in self._programs:
            program.check()

    def stop(self) -> None:
        for program in self._programs:
            program.stop()

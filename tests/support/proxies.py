"""Proxies that tests bring along as real programs: microsocks and Dante (SOCKS 5), tinyproxy (CONNECT), and HAProxy
before it for CONNECT by TLS."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.support.certificates import Authority
from tests.support.peers import require
from tests.support.ports import Reserved
from tests.support.programs import Program


class Microsocks(Program):
    """SOCKS 5; with a login where `user` is given. `own`: its port, which it gives back."""

    def __init__(self, user: str = "", password: str = "", own: Reserved | None = None) -> None:
        base, own = Path(tempfile.mkdtemp(prefix="microsocks-")), own or Reserved()
        login = ["-u", user, "-P", password] if user else []
        super().__init__(
            [require("microsocks"), "-i", "127.0.0.1", "-p", str(own.port), *login], base, own.port, (own,)
        )


DANTE = """
logoutput: stderr
internal: 127.0.0.1 port = {port}
external: lo
socksmethod: none
clientmethod: none
user.privileged: {user}
user.unprivileged: {user}
client pass {{ from: 0.0.0.0/0 to: 0.0.0.0/0 }}
socks block {{ from: 0.0.0.0/0 to: 127.0.0.99/32 }}
socks pass {{ from: 0.0.0.0/0 to: 0.0.0.0/0 }}
socks pass {{ from: 0.0.0.0/0 to: ::/0 }}
"""


class Dante(Program):
    """SOCKS 5; its rules do not allow 127.0.0.99."""

    def __init__(self) -> None:
        danted = require("danted")
        base, own = Path(tempfile.mkdtemp(prefix="dante-")), Reserved()
        (base / "danted.conf").write_text(DANTE.format(port=own.port, user=Path.home().owner()))
        super().__init__([danted, "-f", str(base / "danted.conf"), "-p", str(base / "pid")], base, own.port, (own,))


class Tinyproxy(Program):
    """HTTP with CONNECT; with a login where `user` is given. It connects to every port but `forbidden`'s host."""

    def __init__(self, user: str = "", password: str = "") -> None:
        tinyproxy = require("tinyproxy")
        base, own = Path(tempfile.mkdtemp(prefix="tinyproxy-")), Reserved()
        login = f"BasicAuth {user} {password}\n" if user else ""
        (base / "filter").write_text("forbidden\n")
        (base / "tinyproxy.conf").write_text(
            f"Port {own.port}\nListen 127.0.0.1\nTimeout 60\nMaxClients 100\nAllow 127.0.0.1\n"
            f'Filter "{base}/filter"\nFilterURLs Off\n{login}'
        )
        base.chmod(0o755)
        super().__init__([tinyproxy, "-d", "-c", str(base / "tinyproxy.conf")], base, own.port, (own,))


class TlsBefore(Program):
    """HAProxy that ends TLS as `name` and passes what is inside to `target`; `ca`: a PEM file with its authority."""

    def __init__(self, target: int, name: str) -> None:
        haproxy = require("haproxy")
        base, own = Path(tempfile.mkdtemp(prefix="haproxy-")), Reserved()
        authority = Authority()
        credential = authority.credential([name])
        (base / "site.pem").write_bytes(credential.chain + credential.key)
        self.ca_pem = authority.root_pem
        (base / "haproxy.cfg").write_text(
            "defaults\n mode tcp\n timeout connect 60s\n timeout client 120s\n timeout server 120s\n"
            f"listen front\n bind 127.0.0.1:{own.port} ssl crt {base}/site.pem\n server proxy 127.0.0.1:{target}\n"
        )
        super().__init__([haproxy, "-db", "-f", str(base / "haproxy.cfg")], base, own.port, (own,))

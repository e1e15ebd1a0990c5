"""Let's Encrypt's small CA for tests, and the DNS that it believes: real programs, an authority of the test's own."""

from __future__ import annotations

import json
import tempfile
import urllib.request
from pathlib import Path
from typing import Any

from tests.support.certificates import Authority, write
from tests.support.peers import require
from tests.support.ports import Reserved
from tests.support.programs import Program

EXTERNAL = ("kid-1", "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W")
"""Id and key of the one external account that it knows, where it wants one."""


class ChallengeDns(Program):
    """pebble-challtestsrv: every name is at 127.0.0.1. `dns`: HOST:PORT; `set_txt` and `clear_txt` change it."""

    def __init__(self) -> None:
        program = require("pebble-challtestsrv")
        base = Path(tempfile.mkdtemp(prefix="challtestsrv-"))
        dns, management = Reserved(), Reserved()
        self.dns = f"127.0.0.1:{dns.port}"
        self.management = f"http://127.0.0.1:{management.port}"
        argv = [program, "-dns01", self.dns, "-management", f"127.0.0.1:{management.port}"]
        argv += ["-http01", "", "-https01", "", "-tlsalpn01", "", "-defaultIPv6", ""]
        super().__init__(argv, base, management.port, (dns, management))

    def set_txt(self, name: str, value: str) -> None:
        """`name` with its final dot."""
        self._post("set-txt", {"host": name, "value": value})

    def clear_txt(self, name: str) -> None:
        self._post("clear-txt", {"host": name})

    def _post(self, what: str, body: dict[str, str]) -> None:
        with urllib.request.urlopen(f"{self.management}/{what}", json.dumps(body).encode(), timeout=240):
            pass


class Pebble(Program):
    """Pebble at `url`, believed by `trust` (PEM). It asks `dns` (HOST:PORT) and looks at `http` and `tls` on 127.0.0.1.

    `external`: only customers get an account. `rejects`: per cent of good nonces that it refuses. `believes`: it looks
    at no challenge. `lifetime`: seconds of its certificates. What is kept between two of its lives: nothing.
    """

    def __init__(
        self,
        dns: str,
        *,
        external: bool = False,
        rejects: int = 0,
        believes: bool = False,
        lifetime: int | None = None,
    ) -> None:
        program = require("pebble")
        base = Path(tempfile.mkdtemp(prefix="pebble-"))
        own, management, self.http, self.tls = Reserved(), Reserved(), Reserved(), Reserved()
        authority = Authority()
        write(authority.credential(["localhost", "127.0.0.1"]), base, "pebble")
        self.trust = authority.root_pem
        self.url = f"https://localhost:{own.port}/dir"
        settings: dict[str, Any] = {
            "listenAddress": f"127.0.0.1:{own.port}",
            "managementListenAddress": f"127.0.0.1:{management.port}",
            "certificate": "pebble.pem",
            "privateKey": "pebble.key",
            "httpPort": self.http.port,
            "tlsPort": self.tls.port,
            "externalAccountBindingRequired": external,
        }
        if lifetime is not None:
            settings["certificateValidityPeriod"] = lifetime
        if external:
            settings["externalAccountMACKeys"] = dict([EXTERNAL])
        (base / "config.json").write_text(json.dumps({"pebble": settings}))
        argv = [program, "-config", "config.json", "-dnsserver", dns, "-strict"]
        environment = {
            "PEBBLE_VA_NOSLEEP": "1",
            "PEBBLE_VA_ALWAYS_VALID": "1" if believes else "0",
            "PEBBLE_AUTHZREUSE": "0",
            "PEBBLE_WFE_NONCEREJECT": str(rejects),
        }
        super().__init__(argv, base, own.port, (own, management, self.http, self.tls), environment)

"""BIND's named as a primary server of a zone that takes updates signed by one key."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import dns.message
import dns.query

from tests.support.peers import require
from tests.support.ports import Reserved
from tests.support.programs import Program

KEY = ("updates.", "c2VjcmV0IG9mIGEgdGVzdCwgb2YgMzIgb2N0ZXRzIQ==")
"""Name and secret, hmac-sha256."""

_CONFIG = """
options {{
    directory "{base}"; pid-file none; session-keyfile none; lock-file none; recursion no; dnssec-validation no;
    listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }}; notify no; empty-zones-enable no;
}};
controls {{ }};
key "{name}" {{ algorithm hmac-sha256; secret "{secret}"; }};
{zones}
"""
_ZONE = 'zone "{zone}" {{ type primary; file "{zone}"; update-policy {{ grant {name} zonesub {types}; }}; }};\n'
_RECORDS = """$TTL 60
@ SOA ns root 1 3600 600 86400 60
@ NS ns
ns A 127.0.0.1
@ A 127.0.0.1
* A 127.0.0.1
"""


class Named(Program):
    """At `port`, for `zones`: every name of them is at 127.0.0.1. `types`: that may be updated. `more`: lines of zone
    files, by zone.
    """

    def __init__(self, *zones: str, types: str = "TXT", more: dict[str, str] | None = None) -> None:
        named = require("named")
        base = Path(tempfile.mkdtemp(prefix="named-"))
        base.chmod(0o755)
        own = Reserved()
        for zone in zones:
            (base / zone).write_text(_RECORDS + (more or {}).get(zone, ""))
        name, secret = KEY
        text = "".join(_ZONE.format(zone=zone, name=name, types=types) for zone in zones)
        (base / "named.conf").write_text(_CONFIG.format(base=base, port=own.port, name=name, secret=secret, zones=text))
        # Where AppArmor is on, the program of that path reads only what a host's own server would.
        program = shutil.copy(named, base / "nameserver")
        self.dns = f"127.0.0.1:{own.port}"
        super().__init__([program, "-g", "-4", "-n", "1", "-c", "named.conf"], base, own.port, (own,))

    def txt(self, name: str) -> set[str]:
        """What it says now."""
        response = dns.query.tcp(dns.message.make_query(name, "TXT"), "127.0.0.1", 60, self.port)
        return {record.strings[0].decode() for rrset in response.answer if rrset.rdtype == 16 for record in rrset}

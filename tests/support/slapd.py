"""OpenLDAP's slapd with a few people, on free ports of loopback: in clear (with StartTLS) and by TLS."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.support.certificates import Authority
from tests.support.peers import require
from tests.support.ports import Reserved
from tests.support.programs import Program

ADMIN, ADMIN_PASSWORD, BASE = "cn=admin,dc=x", "adm1n", "dc=x"

_CONFIG = """
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
pidfile {base}/pid
modulepath /usr/lib/ldap
moduleload back_mdb
TLSCertificateFile {certificate}
TLSCertificateKeyFile {key}
{more}
database mdb
suffix {suffix}
rootdn {admin}
rootpw {password}
directory {base}
access to attrs=userPassword by anonymous auth by * none
access to * by dn.exact="{admin}" read {others}
"""
_PEOPLE = (
    ("erin", ["erin@x.test"], "secret"),
    ("frank", ["frank@x.test", "shared@x.test"], "other"),
    ("grace", ["grace@x.test", "shared@x.test"], "secret"),
    ("heidi", ["heidi@x.test"], None),
    ("star", ["*@x.test", "(mail=*)@x.test", "back\\slash@x.test"], "secret"),
)


class Slapd(Program):
    """At `port`, and by TLS at `tls_port`; `anonymous`: whether anybody may search. `ca`: PEM of who vouches for it."""

    def __init__(self, *names: str, anonymous: bool = False, clear: bool = True) -> None:
        slapd, slapadd = require("slapd"), require("slapadd")
        base = Path(tempfile.mkdtemp(prefix="slapd-"))
        own, tls = Reserved(), Reserved()
        authority = Authority()
        self.ca = authority.root_pem
        files = authority.files(base, names or ("localhost",), stem="server")
        config = base / "slapd.conf"
        config.write_text(
            _CONFIG.format(
                base=base,
                certificate=files.cert,
                key=files.key,
                suffix=BASE,
                admin=ADMIN,
                password=ADMIN_PASSWORD,
                others="by anonymous read" if anonymous else "",
                more="" if clear else "security simple_bind=128",
            )
        )
        people = base / "people.ldif"
        people.write_text("\n\n".join(_entries()) + "\n")
        subprocess.run([slapadd, "-f", config, "-l", people], check=True, capture_output=True, timeout=240)
        # Where AppArmor is on, the program of that path reads only what a host's own server would.
        program = shutil.copy(slapd, base / "directory")
        places = f"ldap://127.0.0.1:{own.port} ldaps://127.0.0.1:{tls.port}"
        self.tls_port = tls.port
        super().__init__([program, "-d", "0", "-f", str(config), "-h", places], base, own.port, (own, tls))


def _entries() -> list[str]:
    found = [f"dn: {BASE}\nobjectClass: dcObject\nobjectClass: organization\no: x\ndc: x"]
    for uid, mails, password in _PEOPLE:
        lines = [f"dn: uid={uid},{BASE}", "objectClass: inetOrgPerson", f"uid: {uid}", f"cn: {uid}", f"sn: {uid}"]
        lines += [f"mail: {mail}" for mail in mails]
        lines += [f"userPassword: {password}"] if password is not None else []
        found.append("\n".join(lines))
    return found

"""`python -m bench.testssl`: testssl.sh against web, smtps, and STARTTLS on both mail ports; about six minutes.

Protocols, suites, forward secrecy, server defaults and vulnerabilities, with `intermediate` and an ECDSA and an RSA
certificate of a CA made for it. Prints what weighs MEDIUM or more; what is about that CA's certificates (no revocation
list, no CAA record) is left out. Who decides the order of suites is not asked: Mozilla leaves it to the client, testssl
wants it of the server. Exit status 1 where something is found.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from bench.certificates import signed
from bench.place import free_port
from dcrouter.admin.client import ApiError, ask

NAME = "mail.example.test"
CHECKS = ("-p", "-s", "-f", "-S", "-U")
WEIGHTY = ("MEDIUM", "HIGH", "CRITICAL")
OF_THE_CHAIN = ("cert_", "DNS_CAArecord", "OCSP_stapling")
"""Findings whose name begins so are about the certificates, which are the bench's own."""
WITHIN = 900.0
"""Seconds for one port."""
READY_WITHIN = 30.0


def make_pairs(directory: Path) -> list[dict[str, str]]:
    """An ECDSA and an RSA pair; `directory`/root.pem."""
    signer = ec.generate_private_key(ec.SECP256R1())
    root = signed("bench root", signer, "bench root", signer, ca=True, days=400)
    (directory / "root.pem").write_bytes(root.public_bytes(Encoding.PEM))
    pairs = []
    for kind, key in (("ec", ec.generate_private_key(ec.SECP256R1())), ("rsa", rsa.generate_private_key(65537, 2048))):
        pair = {"cert": str(directory / f"{kind}.pem"), "key": str(directory / f"{kind}.key")}
        leaf = signed(NAME, key, "bench root", signer, days=200)
        Path(pair["cert"]).write_bytes(leaf.public_bytes(Encoding.PEM))
        Path(pair["key"]).write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        pairs.append(pair)
    return pairs


def configuration(directory: Path, ports: dict[str, int]) -> str:
    web = {
        "name": "web",
        "match": {"ports": ports["web"], "domains": [NAME]},
        "tls": {"mode": "terminate"},
        "action": {"type": "respond"},
    }
    rule = {"name": "r", "match": {"recipients": ["*@a.test"]}, "action": {"type": "deliver", "maildir": "m"}}
    kinds = ("smtp", "submission", "smtps")
    email = {
        "hostname": NAME,
        "postmaster": "root@a.test",
        "ports": [{"port": ports[kind], "kind": kind} for kind in kinds],
        "rules": [rule],
    }
    document = {
        "version": 1,
        "listen": ["127.0.0.1"],
        "state_dir": str(directory / "state"),
        "admin": {"socket": str(directory / "s")},
        "tls": {"ciphers": "intermediate"},
        "certificates": {"files": make_pairs(directory)},
        "routes": [web],
        "email": email,
    }
    return json.dumps(document)


def findings(program: str, directory: Path, kind: str, port: int) -> list[str]:
    """What it says of one port that weighs something; SystemExit where it does not come to an end."""
    said = directory / f"{kind}.json"
    starttls = ["-t", "smtp"] if kind in ("smtp", "submission") else []
    command = [program, "--quiet", "--color", "0", "--warnings", "batch", "--ip", "127.0.0.1"]
    command += ["--add-ca", str(directory / "root.pem"), "--jsonfile", str(said), *CHECKS, *starttls, f"{NAME}:{port}"]
    with (directory / f"{kind}.txt").open("wb") as output:
        subprocess.run(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, timeout=WITHIN, check=False)
    try:
        found = json.loads(said.read_text())
    except (OSError, ValueError):
        raise SystemExit((directory / f"{kind}.txt").read_text()[-2000:]) from None
    if not any(one["id"] == "RC4" for one in found):  # the last of the checks
        raise SystemExit((directory / f"{kind}.txt").read_text()[-2000:])
    return [
        f"{one['severity']} {one['id']}: {one['finding']}"
        for one in found
        if one["severity"] in WEIGHTY and not one["id"].startswith(OF_THE_CHAIN)
    ]


def main() -> int:
    program = shutil.which("testssl") or shutil.which("testssl.sh")
    if program is None:
        print("testssl.sh is not installed (Debian: testssl.sh)")
        return 1
    count = 0
    with tempfile.TemporaryDirectory(prefix="bench-testssl-") as folder:
        directory = Path(folder)
        ports = {kind: free_port() for kind in ("web", "smtps", "smtp", "submission")}
        source = directory / "routes.yaml"
        source.write_text(configuration(directory, ports))
        with (directory / "log").open("wb") as log:
            service = subprocess.Popen(
                [sys.executable, "-P", "-m", "dcrouter.tap", "--config", str(source)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            _wait(directory)
            for kind, port in ports.items():
                began = time.monotonic()
                found = findings(program, directory, kind, port)
                print(f"{kind}: {len(found)} findings, {time.monotonic() - began:.0f} s", flush=True)
                for line in found:
                    print(f"  {line}")
                count += len(found)
        finally:
            service.terminate()
            service.wait(60)
    return 1 if count else 0


def _wait(directory: Path) -> None:
    until = time.monotonic() + READY_WITHIN
    while time.monotonic() < until:
        try:
            if ask(directory / "s", "GET", "/status")["state"] == "ready":
                return
        except ApiError:
            pass
        time.sleep(0.1)
    raise SystemExit((directory / "log").read_text()[-2000:])


if __name__ == "__main__":
    sys.exit(main())

"""Ports on which peers must begin with a PROXY header, and which nobody listens on: hardly what was meant, as on the
port that was, the header would be taken for the client's first bytes.
"""

from __future__ import annotations

from dcrouter.config.admin import Config
from dcrouter.config.overlap import ports_overlap
from dcrouter.config.place import Place


def check_introduced(config: Config, root: Place) -> None:
    """`root`: the document. Routes that are not enabled count: they may be tomorrow."""
    if root.findings.touch(("routes",)) or root.findings.touch(("email",)):
        return
    heard = [given for route in config.routes for given in route.match.ports]
    mail = {port.port for port in config.email.ports} if config.email is not None else set()
    for at, introduced in enumerate(config.proxy_protocol):
        for given in introduced.ports or ():
            among_mail = any(port in given for port in mail)
            if not among_mail and not ports_overlap([given], heard):
                what = (
                    f"port {given.start}" if given.start == given.end else f"any port from {given.start} to {given.end}"
                )
                root.at("proxy_protocol", at, "ports").warn(f"nobody listens on {what}")

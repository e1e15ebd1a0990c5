"""The two halves of one routes.yaml as two services: `--only proxy` and `--only mail`, on this host.

halves = Halves(TEXT, ports=("smtp", "smtp_inner"))
halves.proxy, halves.mail      # a Router each; `base` and `ports` are the same
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

from tests.support.router import RUN, Router


class MailHalf(Router):
    """That of `proxy`, whose directory and ports it shares."""

    def __init__(self, proxy: Router) -> None:
        self.base = proxy.base
        self.state = proxy.state / "mail-half"
        self.expected = []
        self.ports = proxy.ports
        self.command = (*RUN, "--only", "mail")
        self.environment = proxy.environment
        self.process = None
        self.environment = proxy.environment
        self._reserved = {}
        self._log = self.base / "mail.log"
        self._log.touch()

    def _clear(self) -> None:
        """The directory is the other half's to remove."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


class Halves:
    """Both are ready when this is made."""

    def __init__(self, text: str, *, ports: Sequence[str], expected: Sequence[str] = (), **values: Any) -> None:
        only = (*RUN, "--only", "proxy")
        self.proxy = Router(text, ports=ports, expected=expected, command=only, start=False, **values)
        self.mail = MailHalf(self.proxy)
        self.mail.expected = list(expected)
        try:
            self.mail.start()
            self.proxy.start()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """As Router.close, of both."""
        with contextlib.ExitStack() as stack:
            stack.callback(self.proxy.close)
            stack.callback(self.mail.close)

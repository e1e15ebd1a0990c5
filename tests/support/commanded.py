"""Commands of `dcrouter` in front of a real API on a socket, behind which a test says who answers for the mail half."""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from shutil import rmtree
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorUNIX
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from dcrouter.admin.api import Api
from dcrouter.admin.cli import main
from tests.support.operated import Answering


class Service(Answering):
    """`answers`: kind of question -> who answers it."""

    def __init__(self, **answers: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        super().__init__()
        self._answers = answers

    def ask_mail(self, kind: str, fields: dict[str, Any]) -> Deferred[dict[str, Any]]:
        return succeed(self._answers[kind](fields))


class Socket:
    """The API of `service`, until the end of the test."""

    def __init__(self, case: TestCase, service: Service) -> None:
        base = Path(tempfile.mkdtemp())
        case.addCleanup(rmtree, base)
        self.path = base / "admin.sock"
        api = Api(IReactorUNIX(reactor), self.path, service)
        api.startService()
        case.addCleanup(api.stopService)

    async def run(self, *arguments: str) -> tuple[int, str, str]:
        """A command: exit status, standard output, standard error."""
        out, err = io.StringIO(), io.StringIO()

        def work() -> int:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                return main([*arguments, "--socket", str(self.path)])

        status = await deferToThread(work)
        return status, out.getvalue(), err.getvalue()

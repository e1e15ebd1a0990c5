"""The command line's side of the API: one request over the unix socket, one answer."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from dcrouter.control.state import holder_of
from dcrouter.errors import DcrouterError

TIMEOUT = 60.0
"""Seconds; more than the API gives the mail process to answer."""


class ApiError(DcrouterError):
    """The API could not be asked, or refused: one line for the operator. `answer`: what it said, if anything."""

    def __init__(self, message: str, answer: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.answer = answer or {}


def ask(path: Path, method: str, target: str, body: object = None) -> dict[str, Any]:
    """The JSON answer of the service whose admin socket is `path`; ApiError where there is none or it is an error.

    `body`: what is sent as JSON, None: nothing.
    """
    connection = _UnixConnection(path)
    try:
        connection.request(method, target, None if body is None else json.dumps(body))
        response = connection.getresponse()
        answer = json.loads(response.read())
    except (FileNotFoundError, ConnectionRefusedError):
        pid = holder_of(path.with_name("lock"))
        if pid is not None and not path.exists():
            raise ApiError(f"{path} is not there yet, or was removed: then `kill -HUP {pid}` brings it back") from None
        raise ApiError(f"no dcrouter is running here: nobody listens on {path}") from None
    except PermissionError:
        raise ApiError(f"{path} may be opened only by root and the user that dcrouter runs as") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise ApiError(f"no answer from {path}: {error}") from error
    finally:
        connection.close()
    if response.status != http.client.OK:
        raise ApiError(str(answer.get("error", response.reason)), answer)
    assert isinstance(answer, dict)
    return answer


def pages(path: Path, target: str, name: str) -> Iterator[dict[str, Any]]:
    """All that is behind `name` in the answers of GET `target`, each of which says where the next begins."""
    place: str | None = None
    while True:
        answer = ask(path, "GET", target if place is None else f"{target}?{urlencode({'after': place})}")
        yield from answer[name]
        place = answer["next"]
        if place is None:
            return


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=TIMEOUT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(bytes(self._path))

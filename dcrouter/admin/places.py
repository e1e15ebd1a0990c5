"""Where the configuration and the service's socket are, when the operator does not say."""

from __future__ import annotations

import argparse
import os
import re
import socket
import stat
from pathlib import Path

from dcrouter.config.document import compose, read_text
from dcrouter.config.findings import Findings
from dcrouter.config.halves import DIRECTORY
from dcrouter.config.load import load
from dcrouter.config.nodes import Mapping, Node, Scalar
from dcrouter.errors import ConfigError, StartError, reason_of

PLACES = (Path("routes.yaml"), Path("/etc/dcrouter/routes.yaml"))


def find_config(given: str | None) -> Path:
    """The one `given`, or the first of PLACES that is there; StartError, with what to do, where none is."""
    candidates = PLACES if given is None else (Path(given),)
    for path in candidates:
        try:
            mode = path.stat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise StartError(f"{path}: cannot be read: {reason_of(error).lower()}") from error
        if stat.S_ISREG(mode) or (given is not None and not stat.S_ISDIR(mode)):
            return path
    if given is not None:
        raise StartError(f"{given}: {'is a directory' if Path(given).is_dir() else 'there is no such file'}")
    raise StartError(
        f"no configuration: there is neither {PLACES[0]} here nor {PLACES[1]}; name one with --config FILE"
    )


def told_socket(path: Path) -> Path | None:
    """What a configuration says of `admin.socket` and `state_dir`, whatever else is wrong with it; None where it cannot
    be told. Where that is not there, a `state_dir` has perhaps just been written: then the default, if that is there.

    Much faster than to read the whole of a large file.
    """
    try:
        text = read_text(path)
    except ConfigError:
        return None
    root = compose(text, os.environ, Findings())
    if isinstance(root, Mapping):
        state_dir, socket = _text(root, "state_dir"), _text(root, "admin", "socket")
    else:
        # Not even YAML just now: the line is there all the same, or the default holds.
        found = re.search(r"^state_dir:[ \t]*[\"']?([^\s\"'#]+)", text, re.MULTILINE)
        state_dir, socket = found[1] if found else "", ""
    folder = path.absolute().parent
    told = folder / (state_dir or "state") / (socket or "admin.sock")
    default = folder / "state" / "admin.sock"
    # Not Path.exists, which raises where this user may not look: who asks the socket is told that.
    return default if os.path.exists(default) and not os.path.exists(told) else told


def _of_mail_half(path: Path) -> Path | None:
    """The admin socket of a mail half that is a service of its own, which the configuration `path` may have."""
    try:
        text = read_text(path)
    except ConfigError:
        return None
    root = compose(text, os.environ, Findings())
    state_dir = _text(root, "state_dir") if isinstance(root, Mapping) else ""
    return path.absolute().parent / (state_dir or "state") / DIRECTORY / "admin.sock"


def _answers(path: Path) -> bool:
    """Whether a service listens there."""
    with socket.socket(socket.AF_UNIX) as asked:
        asked.settimeout(1.0)
        try:
            asked.connect(str(path))
        except OSError:
            return False
    return True


def _text(node: Mapping, *keys: str) -> str:
    """The text at the end of these keys, "" where there is none."""
    found: Node = node
    for key in keys:
        if not isinstance(found, Mapping) or key not in found.entries:
            return ""
        found = found.entries[key][1]
    return found.text if isinstance(found, Scalar) else ""


def mail_socket(arguments: argparse.Namespace) -> Path:
    """As `service_socket`, of the mail half where that is a service of its own."""
    asked = arguments.socket or arguments.only
    half = None if asked else _of_mail_half(find_config(arguments.config))
    return half if half is not None and _answers(half) else service_socket(arguments)


def service_socket(arguments: argparse.Namespace) -> Path:
    """As `--socket` says, or the configuration, which may be wrong elsewhere: while it is being edited, the service
    still runs with the old one. `--only mail`: of that half, which is asked too where there is no other here.
    """
    if arguments.socket:
        return Path(arguments.socket)
    half = None if arguments.only == "proxy" else _of_mail_half(find_config(arguments.config))
    if arguments.only == "mail" and half is not None:
        return half
    if (told := told_socket(find_config(arguments.config))) is not None:
        return half if half is not None and os.path.exists(half) and not os.path.exists(told) else told
    try:
        return load(find_config(arguments.config)).admin.socket
    except ConfigError as error:
        hint = "dcrouter: the configuration does not tell where the service listens: name it with --socket PATH"
        raise ConfigError([*error.problems, hint]) from error

"""Where the configuration and the service's socket are, when the operator does not say."""

from __future__ import annotations

import argparse
import stat
from pathlib import Path

from dcrouter.config.load import load
from dcrouter.errors import ConfigError, StartError

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
            raise StartError(f"{path}: cannot be read: {(error.strerror or str(error)).lower()}") from error
        if stat.S_ISREG(mode) or (given is not None and not stat.S_ISDIR(mode)):
            return path
    if given is not None:
        raise StartError(f"{given}: {'is a directory' if Path(given).is_dir() else 'there is no such file'}")
    raise StartError(
        f"no configuration: there is neither {PLACES[0]} here nor {PLACES[1]}; name one with --config FILE"
    )


def service_socket(arguments: argparse.Namespace) -> Path:
    """As `--socket` says, or the configuration; while that is being edited, the service still runs with the old one."""
    if arguments.socket:
        return Path(arguments.socket)
    try:
        return load(find_config(arguments.config)).admin.socket
    except ConfigError as error:
        hint = "dcrouter: the configuration does not tell where the service listens: name it with --socket PATH"
        raise ConfigError([*error.problems, hint]) from error

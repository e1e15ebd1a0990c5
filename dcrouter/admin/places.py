"""Where the configuration is, when the operator does not say."""

from __future__ import annotations

import stat
from pathlib import Path

from dcrouter.errors import StartError

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

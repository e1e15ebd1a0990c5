"""From routes.yaml to a checked `Config`: every problem of the file at once, or the value that everything else trusts.

1. The text becomes nodes (config/document.py), nodes become values (config/read.py), values are compared
   (config/checks).
2. Each step goes on after a problem as far as what it has can be trusted; the lines are sorted by place.

`to_plain` and `from_plain` carry the result to the child processes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from dcrouter.config.admin import Config
from dcrouter.config.checks.accounts import check_accounts
from dcrouter.config.checks.certified import check_certified
from dcrouter.config.checks.covers import check_covers, check_outward
from dcrouter.config.checks.doors import check_doors
from dcrouter.config.checks.egress import check_egress
from dcrouter.config.checks.equals import check_equals
from dcrouter.config.checks.expressions import check_expressions
from dcrouter.config.checks.introduced import check_introduced
from dcrouter.config.checks.loops import check_loops, check_mail_loops, check_redirects
from dcrouter.config.checks.protocols import check_protocols
from dcrouter.config.checks.remote import check_remote
from dcrouter.config.checks.rules import check_rules
from dcrouter.config.checks.unique import check_names
from dcrouter.config.checks.values import check_admin
from dcrouter.config.checks.zones import check_zones
from dcrouter.config.document import compose, read_text
from dcrouter.config.findings import Findings
from dcrouter.config.halves import Half, halved, of_half, undecided
from dcrouter.config.place import Invalid, Place
from dcrouter.config.plain import from_plain, to_plain
from dcrouter.config.read import Reader
from dcrouter.errors import ConfigError

__all__ = ["from_plain", "load", "load_service", "load_with_warnings", "to_plain"]


def load(path: Path, half: Half | None = None) -> Config:
    """The configuration in `path`; ConfigError with every problem of it."""
    return load_with_warnings(path, half=half)[0]


def load_service(path: Path, half: Half | None) -> tuple[Config, tuple[str, ...]]:
    """The same for a service that is to run."""
    config, warnings = load_with_warnings(path, half=half)
    problem = undecided(config, half)
    if problem is not None:
        raise ConfigError([f"{path}: {problem}"])
    return config, warnings


def load_with_warnings(
    path: Path, environment: Mapping[str, str] | None = None, half: Half | None = None
) -> tuple[Config, tuple[str, ...]]:
    """The configuration, and warnings of what is hardly meant; `environment`: None for the process's own. `half`: as
    that half of two services has it (config/halves.py).
    """
    findings = Findings()
    text = read_text(path)
    root = compose(text, os.environ if environment is None else environment, findings)
    config = None
    if root is not None:
        place = Place.root(halved(root, half, path.absolute().parent, findings), findings)
        reader = Reader(path.absolute().parent)
        try:
            config = reader.read(place, Config)
        except Invalid:
            config = None
        else:
            _check(config, place, reader, half)
            config = of_half(config, half, place)
            check_admin(config, place)
    if config is None or findings.problems or findings.elsewhere:
        here = [problem.show(str(path)) for problem in sorted(findings.problems)]
        raise ConfigError([*here, *findings.elsewhere])
    return config, tuple(warning.show(str(path)) for warning in sorted(findings.warnings))


def _check(config: Config, root: Place, reader: Reader, half: Half | None) -> None:
    """What no value can know of itself."""
    findings = root.findings
    check_names(root, config.email)
    if config.email is not None and half != "proxy":
        check_accounts(config.email, root, reader)
        check_rules(config.email, root, reader)
        check_zones(config.email, root, reader)
        check_egress(config.email, reader)
    check_covers(config, root, reader)
    check_outward(config, root)
    check_certified(config, root, reader)
    check_expressions(config, reader)
    check_introduced(config, root)
    if not findings.touch(("listen",)):
        unreached = check_doors(config, root, reader)
        check_protocols(config, reader)
        check_equals(config, reader, unreached)
        check_loops(config, reader)
        check_redirects(config, reader)
        check_mail_loops(config, reader)
        check_remote(config, root)
    if not config.routes and config.email is None and not findings.problems:
        root.warn("there is neither `routes` nor `email`: nothing is listened on")

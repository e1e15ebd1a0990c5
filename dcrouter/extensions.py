"""Code of the operator's own, found by the names that routes.yaml has for it (`package.module:name`), and made ready.

1. `use_folder`, once: modules may stand beside routes.yaml. Installed packages and Python's own come first.
2. `Extensions.load` imports what a configuration names, or tells all that is wrong with it. What the one before named
   too stays the same object, with what it remembers.
3. A module beside routes.yaml that is named and has changed is imported anew; what it imports itself is not.

Only the process of the handlers, and the one that tries names out for `check`, come here: importing runs the code.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from attrs import frozen
from twisted.internet.interfaces import IProtocol, IProtocolFactory

from dcrouter.config.code import Code
from dcrouter.config.findings import meant
from dcrouter.errors import ConfigError

Stamp = tuple[str, int, int]
"""Of a module's file: path, mtime in ns, size."""
_TakenOut = dict[str, tuple[ModuleType, Stamp | None]]
"""Modules that are imported anew: what they were."""


@frozen(eq=False)
class Loaded:
    """What one configuration names, by name. `modules`: where each name was found."""

    factories: Mapping[str, IProtocolFactory]
    selects: Mapping[str, Callable[[Any], Any]]
    modules: Mapping[str, ModuleType]


NOTHING = Loaded({}, {}, {})


class Extensions:
    """Of one process."""

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._stamps: dict[str, Stamp | None] = {}

    def use_folder(self, folder: Path) -> None:
        """Modules may stand there. Nothing is written beside them."""
        self._folder = folder
        sys.dont_write_bytecode = True
        sys.path.append(str(folder))

    def load(self, wanted: Iterable[Code], before: Loaded = NOTHING) -> Loaded:
        """All of them; ConfigError with every problem, and then modules are as they were."""
        importlib.invalidate_caches()
        taken_out: _TakenOut = {}
        problems: list[str] = []
        factories: dict[str, IProtocolFactory] = {}
        selects: dict[str, Callable[[Any], Any]] = {}
        modules: dict[str, ModuleType] = {}
        for code in wanted:
            made: dict[str, Any] = factories if code.kind == "factory" else selects
            if code.name in made:
                continue
            try:
                module = modules[code.name] = self._module(code.module, taken_out)
                known: Mapping[str, Any] = before.factories if code.kind == "factory" else before.selects
                if code.name in known and before.modules[code.name] is module:
                    made[code.name] = known[code.name]
                else:
                    made[code.name] = _MAKERS[code.kind](code.name, _attribute(module, code.attribute))
            except _Wrong as wrong:
                problems.append(f"{code.where}: {code.name}: {wrong}")
        if problems:
            for name, (module, stamp) in taken_out.items():
                _put_back(name, module)
                self._stamps[name] = stamp
            raise ConfigError(problems)
        return Loaded(factories, selects, modules)

    def _module(self, name: str, taken_out: _TakenOut) -> ModuleType:
        found = sys.modules.get(name)
        if found is not None and name in self._stamps and name not in taken_out and self._has_changed(name, found):
            taken_out[name] = sys.modules.pop(name), self._stamps[name]
        try:
            module: ModuleType = _guarded(lambda: importlib.import_module(name), f"cannot import {name}")
        except _Wrong as wrong:
            folder = self._folder
            if (
                folder is not None
                and isinstance(wrong.__cause__, ImportError)
                and not os.access(folder, os.R_OK | os.X_OK)
            ):
                raise _Wrong(f"{wrong} (this user cannot read {folder})") from wrong
            raise
        if found is not module:
            self._stamps[name] = _stamp(module)
        return module

    def _has_changed(self, name: str, module: ModuleType) -> bool:
        stamp = self._stamps[name]
        if stamp is None or self._folder is None or not Path(stamp[0]).is_relative_to(self._folder):
            return False
        return _stamp(module) != stamp


class _Wrong(Exception):
    """What is wrong with a name."""


def _attribute(module: ModuleType, path: str) -> Any:
    found: Any = module
    for name in path.split("."):
        if not hasattr(found, name):
            where = f" ({module.__file__})" if found is module and getattr(module, "__file__", None) else ""
            known = [one for one in dir(found) if not one.startswith("_")]
            owner = getattr(found, "__name__", path)
            raise _Wrong(f"{owner}{where} has no {name}{meant(name, known)}")
        found = getattr(found, name)
    return found


def _factory(name: str, found: Any) -> IProtocolFactory:
    made = found
    if isinstance(found, type) or not IProtocolFactory.providedBy(found):
        if not callable(found):
            raise _Wrong("is neither a protocol factory nor gives one when it is called")
        made = _guarded(found, "cannot be called without arguments")
    if not IProtocolFactory.providedBy(made):
        hint = ": name a factory of it, such as Factory.forProtocol gives" if IProtocol.providedBy(made) else ""
        raise _Wrong(f"gives a {type(made).__name__}, which is no protocol factory (IProtocolFactory){hint}")
    factory: IProtocolFactory = made
    return factory


def _select(name: str, found: Any) -> Callable[[Any], Any]:
    if not callable(found):
        raise _Wrong(f"is a {type(found).__name__} and cannot be called")
    select: Callable[[Any], Any] = found
    return select


_MAKERS: Mapping[str, Callable[[str, Any], Any]] = {"factory": _factory, "select": _select}


def _guarded(act: Callable[[], Any], what: str) -> Any:
    """What foreign code gives; whatever it raises, even its wish to end the process, is told."""
    try:
        return act()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise _Wrong(f"{what}: {_told(error)}") from error


def _told(error: BaseException) -> str:
    """`hooks.py:3: NameError: name 'x' is not defined`: with the last place that is not ours or importlib's."""
    text = "".join(traceback.format_exception_only(error)).strip().splitlines()[-1]
    places = [
        f"{Path(frame.filename).name}:{frame.lineno}: "
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename != __file__ and "importlib" not in frame.filename
    ]
    if isinstance(error, SyntaxError) and error.filename is not None:
        places.append(f"{Path(error.filename).name}:{error.lineno}: ")
    return (places[-1] if places else "") + text


def _stamp(module: ModuleType) -> Stamp | None:
    file = getattr(module, "__file__", None)
    if file is None:
        return None
    try:
        found = Path(file).stat()
    except OSError:
        return (file, 0, 0)
    return (file, found.st_mtime_ns, found.st_size)


def _put_back(name: str, module: ModuleType) -> None:
    sys.modules[name] = module
    parent, _, child = name.rpartition(".")
    if parent in sys.modules:
        setattr(sys.modules[parent], child, module)

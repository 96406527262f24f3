"""Loads a model's Python file as modules of its own: two models' files never meet, and a reload is new."""

from __future__ import annotations

import builtins
import gc
import importlib
import importlib.util
import re
import sys
import threading
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.machinery import (
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    ModuleSpec,
    SourceFileLoader,
)
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, ClassVar

from edgert.stats import LiveCount

_naming = threading.Lock()


class ModelCode:
    """A package with model.py and what stands in its folder and the model's, until its last user has left.

    `import helper` in it means the file beside it, `from .helper import x` too; nothing is added to
    sys.path. A folder's file comes before what is installed, but not before the standard library.
    Nothing is written to the folder, and no other bytecode is read.
    """

    live: ClassVar[LiveCount] = LiveCount("model code")

    def __init__(
        self, name: str, folders: Sequence[Path], given: Mapping[str, ModuleType], **own: Any
    ) -> None:
        """`given` are modules that only this code sees; `own` takes the place of built-in functions."""
        self._given = given
        self._is_own: dict[str, bool] = {}
        self._users = 1
        self._lock = threading.Lock()
        builtin = {**vars(builtins), **own, "__import__": self._import}
        self.package = _take_name(name, folders)
        self._finder = _Finder(self.package, folders, builtin)
        sys.meta_path.insert(0, self._finder)
        self.live.opened()

    def load(self, module: str) -> ModuleType:
        """Run a module of the folder and return it. Raises whatever it raises."""
        return importlib.import_module(f"{self.package}.{module}")

    def use(self) -> None:
        """Keep the code until one more `leave`."""
        with self._lock:
            self._users += 1

    def leave(self) -> None:
        """Let go of the code; the last one to do so frees it."""
        with self._lock:
            self._users -= 1
            is_last = not self._users
        if is_last:
            self._free()

    def _free(self) -> None:
        sys.meta_path.remove(self._finder)
        with _naming:
            for name in [name for name in sys.modules if f"{name}.".startswith(f"{self.package}.")]:
                del sys.modules[name]
        self.live.closed()
        gc.collect()  # functions and their module hold each other, and with them perhaps a model's weights

    def _import(
        self,
        name: str,
        globals: Mapping[str, Any] | None = None,  # noqa: A002 - the built-in function's names
        locals: Mapping[str, Any] | None = None,  # noqa: A002
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        """Take the place of `__import__`."""
        top = name.partition(".")[0]
        if level == 0 and name in self._given:
            return self._given[name]
        if level or not self._owns(top):
            return builtins.__import__(name, globals, locals, fromlist or (), level)
        importlib.import_module(f"{self.package}.{name}")
        if not fromlist:
            return sys.modules[f"{self.package}.{top}"]
        return builtins.__import__(f"{self.package}.{name}", globals, locals, fromlist, 0)

    def _owns(self, top: str) -> bool:
        """Say whether a module of this name is the folder's. A bare folder gives way to what is installed."""
        known = self._is_own.get(top)
        if known is None:
            spec = None
            if top not in sys.stdlib_module_names:
                spec = self._finder.find_spec(f"{self.package}.{top}")
            is_bare = spec is not None and spec.loader is None
            known = spec is not None and not (is_bare and importlib.util.find_spec(top) is not None)
            self._is_own[top] = known
        return known


def _take_name(name: str, folders: Sequence[Path]) -> str:
    """Put an empty package into sys.modules and return its name, the same at each reload if it is free."""
    base = "edgert_" + re.sub(r"\W", "_", name, flags=re.ASCII)
    with _naming:
        turn, free = 1, base
        while free in sys.modules:
            turn += 1
            free = f"{base}_{turn}"
        package = sys.modules[free] = ModuleType(free)
        package.__path__ = [str(folder) for folder in folders]
    return free


class _Finder:
    """Finds the modules of one package by looking into its folders each time."""

    def __init__(self, package: str, folders: Sequence[Path], builtin: dict[str, Any]) -> None:
        self._prefix = f"{package}."
        self._folders = [str(folder) for folder in folders]
        self._loaders = (
            (partial(_SourceLoader, builtin), SOURCE_SUFFIXES),
            (ExtensionFileLoader, EXTENSION_SUFFIXES),
        )

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return where a module of the package stands; the first bare folder if there is nothing better."""
        if not name.startswith(self._prefix):
            return None
        folders = self._folders if path is None else path
        specs = [FileFinder(folder, *self._loaders).find_spec(name) for folder in folders]  # type: ignore[arg-type]
        found = [spec for spec in specs if spec is not None]
        return next((spec for spec in found if spec.loader is not None), found[0] if found else None)


class _SourceLoader(SourceFileLoader):
    """Compiles the source anew and gives it the package's built-in functions."""

    def __init__(self, builtin: dict[str, Any], name: str, path: str) -> None:
        super().__init__(name, path)
        self._builtin = builtin

    def get_code(self, fullname: str) -> CodeType:
        """Return the source's code as it is now; bytecode beside it could be of an older source."""
        path = self.get_filename(fullname)
        code: CodeType = self.source_to_code(self.get_data(path), path)
        return code

    def exec_module(self, module: ModuleType) -> None:
        """Run the module."""
        vars(module)["__builtins__"] = self._builtin
        super().exec_module(module)

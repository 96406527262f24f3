"""Finds which modules of unpacked wheels can ever be imported, beginning with edgert's own.

Read from the sources, wherever an import stands, and from the names that stand as texts in Python files and
in native modules; so too much is found rather than too little. What no text names is in DYNAMIC.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from cross.errors import BundleError

DYNAMIC = {"cv2": "its __init__ runs the files beside it and puts their names together"}
TOOLS = {
    "numpy.f2py": "compiles Fortran; only numpy's own attributes name it",
    "numpy.distutils": "compiles C; only numpy.f2py uses it",
}
_NAME = re.compile(rb"[A-Za-z0-9_]+(?:\.[A-Za-z0-9_]+)+")
_SUFFIX = re.compile(r"((\.cpython-[^.]+|\.abi3)?\.so|\.py)$")


class Module(NamedTuple):
    """A module of the site folder."""

    name: str
    file: Path

    @property
    def package(self) -> str:
        """What its relative imports begin from."""
        return self.name if self.file.stem == "__init__" else self.name.rpartition(".")[0]


def modules_of(site: Path) -> dict[str, Module]:
    """Return the modules below a site folder by their names; folders count as packages."""
    found: dict[str, Module] = {}
    for file in sorted(site.rglob("*")):
        parts = [*file.relative_to(site).parts[:-1], _SUFFIX.sub("", file.name)]
        if all(part.isidentifier() for part in parts) and _is_module(file):
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found[name] = Module(name, file)
    return found


def _is_module(file: Path) -> bool:
    """Say whether Python can import a file; a library that another one loads has no such entry."""
    return file.suffix == ".py" or (file.suffix == ".so" and b"PyInit_" in file.read_bytes())


def reached(modules: dict[str, Module], roots: Iterable[str]) -> set[str]:
    """Return the names of modules that are imported from the roots on, by any way. Raises BundleError."""
    kept: set[str] = set()
    left = [*roots]
    while left:
        name = left.pop()
        if name in kept or name not in modules or any(_is_in(name, tool) for tool in TOOLS):
            continue
        kept.add(name)
        left += _parents(name)
        left += [other for other in modules if name in DYNAMIC and _is_in(other, name)]
        left += imports_of(modules[name], modules)
    return kept


def imports_of(module: Module, modules: dict[str, Module]) -> set[str]:
    """Return the names of modules that one module may import."""
    if module.file.suffix == ".so":
        return {*_names_in_native(module.file.read_bytes(), modules)} & modules.keys()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            tree = ast.parse(module.file.read_bytes())
    except SyntaxError as error:
        raise BundleError(f"{module.file} is no Python: {error}") from error
    named = {name for node in ast.walk(tree) for name in _names_in(node, module.package)}
    return named & modules.keys()


def _names_in(node: ast.AST, package: str) -> Iterator[str]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield from (alias.name, *_parents(alias.name))
    elif isinstance(node, ast.ImportFrom):
        start = _absolute(node.module or "", node.level, package)
        yield from (start, *_parents(start))
        yield from (f"{start}.{alias.name}" for alias in node.names)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str) and "." in node.value[:200]:
        yield node.value
        yield f"{package}{node.value}"


def _names_in_native(data: bytes, modules: Iterable[str]) -> Iterator[str]:
    """Yield the dotted names that begin like a module's; to search is quicker than to match a pattern."""
    for start in {name.partition(".")[0] for name in modules}:
        text, at = f"{start}.".encode(), -1
        while (at := data.find(text, at + 1)) >= 0:
            match = _NAME.match(data, at)
            if match is not None:
                yield match[0].decode()


def _absolute(name: str, level: int, package: str) -> str:
    if not level:
        return name
    parts = package.split(".")
    return ".".join([*parts[: len(parts) - level + 1], *([name] if name else [])])


def _is_in(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def _parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]

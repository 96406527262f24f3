"""Takes out of unpacked wheels what nothing on a board reads: modules that none imports, tests, headers."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path

from cross.distribution import is_licence
from cross.reach import Module, modules_of, reached

OWN = "edgert"  # every module of it is a beginning; its kernels' sources are read on the board
TEST_FOLDERS = frozenset(("test", "tests", "docs", "doc", "examples"))
UNREAD = (
    "*.pyi",
    "*.h",
    "*.hpp",
    "*.c",
    "*.cc",
    "*.cpp",
    "*.pyx",
    "*.pxd",
    "*.pxi",
    "*.a",
    "*.lib",
    "py.typed",
)
METADATA = "METADATA"  # what importlib.metadata reads of an installed distribution


def prune(site: Path, kept_patterns: Sequence[str] = ()) -> int:
    """Remove what is not needed below `site`, but for files of `kept_patterns`.

    Returns how many bytes that were. Raises BundleError.
    """
    modules = modules_of(site)
    kept = _reached(modules)
    files = {modules[name].file for name in kept}
    all_modules = {module.file for module in modules.values()}
    removed = 0
    for file in [*site.rglob("*")]:
        if not file.is_file() or file in files:
            continue
        if any(fnmatch(file.relative_to(site).as_posix(), pattern) for pattern in kept_patterns):
            continue
        if file in all_modules or _is_unread(file, site, files):
            removed += file.stat().st_size
            file.unlink()
    _remove_empty(site)
    return removed


def _is_unread(file: Path, site: Path, modules: set[Path]) -> bool:
    """Say of a file that is no module whether no module that is kept reads it."""
    parts = file.relative_to(site).parts
    if parts[0] == OWN or file.suffix == ".so" or ".so." in file.name:
        return False
    if file.parent.suffix == ".dist-info" or parts[0].endswith(".dist-info"):
        return file.name != METADATA
    if is_licence(Path(*parts)):
        return True
    if TEST_FOLDERS & set(parts[:-1]) or any(fnmatch(file.name, pattern) for pattern in UNREAD):
        return True
    return not any(module.is_relative_to(site / parts[0]) for module in modules)


def _remove_empty(site: Path) -> None:
    for folder in sorted((path for path in site.rglob("*") if path.is_dir()), reverse=True):
        if not any(folder.iterdir()):
            folder.rmdir()


def unreached(site: Path) -> list[Module]:
    """Return the modules below `site` that none imports; after `prune` there are none."""
    modules = modules_of(site)
    kept = _reached(modules)
    return [module for name, module in modules.items() if name not in kept]


def _reached(modules: dict[str, Module]) -> set[str]:
    return reached(modules, [name for name in modules if name.split(".")[0] == OWN])

"""The real Python bindings of the TensorRT releases that edgert runs with, over a stub of their libraries.

The bindings come from PyPI, 0.8 to 1.3 MB each, 20 MB in all, and are kept in edgert's cache folder. Each
release is looked at in a process of its own. What engines do is not seen here: that takes TensorRT and a GPU.
"""

from __future__ import annotations

import ast
import builtins
import json
import logging
import mmap
import os
import subprocess
import sys
import tempfile
import threading
import zipfile
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from edgert.execute.tensorrt_bindings import USED_NAMES
from tests.requirements_of import go_without, need_program

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[2]
STUB = ROOT / "tests" / "fakes" / "tensorrt_library.c"
DOWNLOAD_S = 60
ADDRESS, STREAM = 0x7000, 0x5000  # as in tensorrt_surface
SENT = {4096: "size", 256: "alignment", 3: "flags", STREAM: "stream"}


class Release(NamedTuple):
    """One wheel of bindings."""

    runtime: str
    package: str
    version: str

    @property
    def libraries(self):
        """The libraries that it links to, the one with the stub's functions first."""
        major = self.version.partition(".")[0]
        own = {
            "tensorrt": ("nvinfer", "nvinfer_plugin", "nvonnxparser"),
            "tensorrt_lean": ("nvinfer_lean",),
            "tensorrt_dispatch": ("nvinfer_dispatch",),
            "tensorrt_rtx": ("tensorrt_rtx", "tensorrt_onnxparser_rtx"),
        }[self.runtime]
        return [f"lib{name}.so.{major}" for name in own]


RELEASES = [
    Release("tensorrt", "tensorrt-cu12-bindings", "10.3.0"),  # JetPack 6.1, 6.2
    Release("tensorrt", "tensorrt-cu12-bindings", "10.7.0"),
    Release("tensorrt", "tensorrt-cu12-bindings", "10.8.0.43"),
    Release("tensorrt", "tensorrt-cu12-bindings", "10.9.0.34"),
    Release("tensorrt", "tensorrt-cu12-bindings", "10.10.0.31"),  # DRIVE OS 7.0.3
    Release("tensorrt", "tensorrt-cu12-bindings", "10.11.0.33"),
    Release("tensorrt", "tensorrt-cu13-bindings", "10.13.3.9"),  # JetPack 7.0, 7.1
    Release("tensorrt", "tensorrt-cu13-bindings", "10.16.1.11"),  # JetPack 7.2 has 10.16.2
    Release("tensorrt", "tensorrt-cu13-bindings", "11.1.0.106"),
    Release("tensorrt", "tensorrt-cu13-bindings", "11.2.1.2"),
    Release("tensorrt", "tensorrt-cu13-bindings", "11.4.0.106"),
    Release("tensorrt_lean", "tensorrt-lean-cu13-bindings", "10.16.1.11"),
    Release("tensorrt_lean", "tensorrt-lean-cu13-bindings", "11.4.0.106"),
    Release("tensorrt_dispatch", "tensorrt-dispatch-cu13-bindings", "11.4.0.106"),
    Release("tensorrt_rtx", "tensorrt-rtx-cu13-bindings", "1.4.0.76"),
    Release("tensorrt_rtx", "tensorrt-rtx-cu13-bindings", "1.5.0.114"),
    Release("tensorrt_rtx", "tensorrt-rtx-cu13-bindings", "1.6.1.120"),
    Release("tensorrt_rtx", "tensorrt-rtx-cu13-bindings", "1.7.1.116"),
]
every_release = pytest.mark.parametrize(
    "release", RELEASES, ids=[f"{each.runtime}-{each.version}" for each in RELEASES]
)


@every_release
def test_it_has_every_name_that_edgert_uses(release):
    """Loading fails otherwise, and says which is missing."""
    assert ".".join(map(str, look_at(release)["version"])) == release.version


@every_release
def test_it_is_what_the_table_of_differences_says(release):
    seen = look_at(release)
    unseen = {"version", "allocate_order"}
    if release.runtime in ("tensorrt_lean", "tensorrt_dispatch"):
        unseen.add("is_strongly_typed")  # without a builder nothing tells
    if release.runtime == "tensorrt_rtx":
        unseen.add("has_standard_plugins")  # the function is there, the library behind it is not
    table = {name: value for name, value in seen["table"].items() if name not in unseen}
    assert table == {name: value for name, value in seen["names"].items() if name not in unseen}


@every_release
def test_it_calls_an_allocator_in_the_order_of_the_table(release):
    seen = look_at(release)
    allocated, freed = seen["allocations"]["heard"][:2]
    assert [SENT[argument] for argument in allocated] == seen["table"]["allocate_order"]
    assert freed == [ADDRESS, STREAM]
    assert seen["allocations"]["answers"][:2] == [ADDRESS, 1]


@every_release
def test_it_asks_an_asynchronous_allocator_for_everything(release):
    seen = look_at(release)
    allocated, freed = seen["allocations"]["heard"][2:]
    by_name = dict(zip(seen["table"]["allocate_order"], allocated, strict=True))
    assert by_name == {"size": 4096, "alignment": 256, "flags": 3, "stream": 0}
    assert freed == [ADDRESS, 0]
    assert seen["allocations"]["answers"][2:] == [ADDRESS, 1]


@every_release
def test_it_speaks_to_edgerts_logger(release):
    seen = look_at(release)
    assert seen["said"] == "an error of the stub"
    assert seen["own_plugins"] == (release.runtime == "tensorrt")


def test_what_the_source_uses_stands_in_the_table():
    listed = {name for _, _, names in USED_NAMES for name in names.split()}
    used, known = names_used(), surface_of_all()
    own = everyday_names()
    missing = [
        f"{place}: {name}, of {' or '.join(sorted(known[name])) or 'the module'}"
        for name, place in sorted(used.items(), key=lambda each: each[1])
        if name in known and name not in listed and name not in own
    ]
    assert not missing, "add these to USED_NAMES in tensorrt_bindings.py:\n" + "\n".join(missing)
    unused = listed - set(used) - strings_used()
    assert not sorted(unused), "nothing uses these any more: take them out of USED_NAMES"


def look_at(release):
    """Return what `tensorrt_surface` says of a release, or skip the test naming what is missing."""
    compiler = need_program("cc", "gcc")
    wheel = fetch(release)
    if isinstance(wheel, str):
        go_without(wheel)
    return describe(release, wheel, compiler)


@cache
def describe(release, wheel, compiler):
    with tempfile.TemporaryDirectory() as folder:
        unpacked = Path(folder)
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(unpacked)
        # What TensorRT's own front end does, and no libraries. They hide those that are installed.
        (unpacked / f"{release.runtime}_libs.py").touch()
        own = (
            f"from {release.runtime}_bindings import *\nfrom {release.runtime}_bindings import __version__\n"
        )
        (unpacked / f"{release.runtime}.py").write_text(own)
        for library in release.libraries:
            source = STUB if library == release.libraries[0] else "/dev/null"
            command = [compiler, "-shared", "-fPIC", "-x", "c", source, "-o", unpacked / library]
            subprocess.run(command, check=True)
        paths = {"PYTHONPATH": f"{unpacked}:{ROOT}", "LD_LIBRARY_PATH": folder}
        done = subprocess.run(
            [sys.executable, "-m", "tests.fakes.tensorrt_surface", release.runtime, release.libraries[0]],
            env={**os.environ, **paths},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@cache
def fetch(release):
    """Return the wheel, or why there is none. One failure of the network is enough."""
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    python = f"cp{sys.version_info.major}{sys.version_info.minor}"
    pattern = f"{release.package.replace('-', '_')}-{release.version}-{python}-*.whl"
    if found := sorted(folder.glob(pattern)):
        return found[0]
    if no_network:
        return no_network[0]
    with tempfile.TemporaryDirectory(dir=folder) as partial:
        options = ["--no-deps", "--only-binary=:all:", "--retries=1", "--timeout=15", "--no-input", "-q"]
        requirement = f"{release.package}=={release.version}"
        command = [sys.executable, "-m", "pip", "download", *options, "--dest", partial, requirement]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=DOWNLOAD_S)
        for wheel in Path(partial).glob(pattern):
            return wheel.replace(folder / wheel.name)
    if "Retrying" in done.stderr:
        no_network.append(f"pip download {requirement} fails: the package index does not answer")
        return no_network[0]
    last = (done.stderr.strip().splitlines() or ["pip says nothing"])[-1]
    return f"pip download {requirement} fails: {last}"


no_network: list[str] = []


def cache_folder():
    """Return where wheels are kept, as edgert's other downloads."""
    own = os.environ.get("EDGERT_CACHE")
    folder = Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgert"
    return folder / "tensorrt-bindings"


def surface_of_all():
    """Return every name of any release, with the classes that have it."""
    known = {}
    for release in RELEASES:
        for owner, names in look_at(release)["surface"].items():
            for name in names:
                known.setdefault(name, set()).update({owner} - {""})
    return known


def names_used():
    """Return the attributes and overridden methods in files that have to do with TensorRT, and where."""
    used = {}
    for file, tree in trees().items():
        if speaks_tensorrt(file, tree):
            for node in ast.walk(tree):
                for name in named_by(node):
                    used.setdefault(name, f"{file.relative_to(ROOT)}:{node.lineno}")
    return used


def named_by(node):
    if isinstance(node, ast.Attribute):
        return [node.attr]
    return [node.name] if isinstance(node, ast.FunctionDef) else []


def strings_used():
    """Return the strings in these files, also as names in capitals: some are looked up by name."""
    nodes = [node for file, tree in trees().items() if speaks_tensorrt(file, tree) for node in ast.walk(tree)]
    texts = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return texts | {text.upper() for text in texts}


def speaks_tensorrt(file, tree):
    modules = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    imports = any("execute.tensorrt_" in module for module in modules)
    return imports or file.name.startswith("tensorrt_") or file.parent.name == "build"


@cache
def everyday_names():
    """Return names that other objects in edgert's source have as well."""
    vendors = (Path, np, np.ndarray, logging, logging.Logger, threading.Thread, mmap.mmap)
    names = {name for kind in (*vars(builtins).values(), *vendors) for name in dir(kind)}
    for node in (node for tree in trees().values() for node in ast.walk(tree)):
        if isinstance(node, ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.ClassDef):
            names.update(name for statement in node.body for name in targets_of(statement))
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.update({node.attr} if ast.unparse(node.value) == "self" else ())
    return names


def targets_of(statement):
    targets = getattr(statement, "targets", None) or [getattr(statement, "target", None)]
    return [target.id for target in targets if isinstance(target, ast.Name)]


@cache
def trees():
    return {file: ast.parse(file.read_text()) for file in sorted((ROOT / "edgert").rglob("*.py"))}

"""Tries a bundle of debian-arm64 in a root of Debian arm64 under qemu: what a user of the board does first.

The broker and the subscriber run on this machine, on 127.0.0.1; nothing is left behind.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NamedTuple

from cross.build import bundle_names
from cross.errors import CrossError
from cross.own_wheel import CHECKOUT
from cross.smoke_line import run_line
from cross.smoke_root import ForeignRoot
from cross.sysroot import make_root
from cross.target import read_target
from edgert.demo.example import write_example
from edgert.demo.folders import scratch_folder
from edgert.demo.material import Material, default_cache, prepare_material
from edgert.exit_codes import ExitCode

TARGET = "debian-arm64"
HELP = "Try a bundle of debian-arm64 in an arm64 root under qemu."
EXAMPLE = "/example"
PIPELINE = f"{EXAMPLE}/demo.toml"
SERVED = "\n[http]\n\n[serve]\n"
UNPACKED = "/opt/unpacked"
IMAGE = "/srv/image"

Report = Callable[[str], None]


class Step(NamedTuple):
    """Something that a user does, and what to say of it. `act` raises CrossError if it goes wrong."""

    name: str
    act: Callable[[], str]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `cross smoke`."""
    parser.add_argument(
        "archive", type=Path, nargs="?", metavar="ARCHIVE", help="default: that in dist/, with its package"
    )
    parser.add_argument("--package", type=Path, metavar="DEB", help="install this with dpkg there, too")
    parser.add_argument("--dist", type=Path, default=CHECKOUT / "dist", metavar="DIR", help="default: dist")
    parser.add_argument("--cache", type=Path, default=CHECKOUT / ".cache" / "cross", metavar="DIR")
    parser.add_argument("--offline", action="store_true", help="fetch no packages for the root")


def run(options: argparse.Namespace) -> int:
    """Try it, and print a table. Raises CrossError at the first step that goes wrong."""
    archive, package = options.archive, options.package
    if archive is None:
        names = bundle_names(read_target(TARGET))
        archive, package = options.dist / names[0], package or options.dist / names[1]
    run_smoke(archive, package, options.cache.resolve(), _print, offline=options.offline)
    return ExitCode.OK


def _print(line: str) -> None:
    print(line, flush=True)


def run_smoke(
    archive: Path, package: Path | None, cache: Path, report: Report, *, offline: bool = False
) -> None:
    """Try the archive and, if there is one, the Debian package; a line for each step with its seconds.

    Blocks for a minute or two. `cache` keeps the root (18 MB to fetch); models and clips are the demo's.

    Raises:
        CrossError: a step went wrong, or this machine cannot run arm64 programs.
        FetchError: the demo's material could not be fetched.
    """
    for file in (archive, package):
        if file is not None and not file.is_file():
            raise CrossError(f"There is no {file}. Build it: edgert cross build {TARGET}")
    began_s = time.monotonic()
    root = make_root(cache, offline=offline)
    material = prepare_material(default_cache(), report)
    with ExitStack() as undo:
        example = undo.enter_context(scratch_folder())
        write_example_for(example, material)
        inside = undo.enter_context(ForeignRoot(root, {EXAMPLE: example, **_shown(package)}))
        for step in _steps(inside, archive, package, material):
            run_step(step, report)
    report(f"{time.monotonic() - began_s:6.1f} s  in all: the bundle works")


def run_step(step: Step, report: Report) -> None:
    """Do a step and report its seconds. Raises CrossError, with the step's name before it."""
    began_s = time.monotonic()
    try:
        said = step.act()
    except CrossError as error:
        raise CrossError(f"{step.name}: {error}") from error
    report(f"{time.monotonic() - began_s:6.1f} s  {step.name:32} {said}")


def write_example_for(folder: Path, material: Material) -> None:
    """Write the demo's example as it is seen in the root, and serve it; batches of one, as qemu is slow."""
    file = write_example(folder, material, has_links=False)
    for config in folder.glob("store/*/config.pbtxt"):
        config.write_text(
            config.read_text("utf-8").replace("max_batch_size: 4", "max_batch_size: 1"), "utf-8"
        )
    file.write_text(file.read_text("utf-8").replace(str(folder.resolve()), EXAMPLE) + SERVED, "utf-8")


def _shown(package: Path | None) -> dict[str, Path]:
    return {} if package is None else {"/packages": package.parent}


def _steps(inside: ForeignRoot, archive: Path, package: Path | None, material: Material) -> Iterator[Step]:
    yield Step("unpack the archive", lambda: _unpack(inside, archive))
    edgert = inside.run("/bin/sh", "-c", f"echo {UNPACKED}/*/bin/edgert").strip()
    yield Step("edgert doctor", lambda: doctor(inside, edgert))
    yield Step("edgert check", lambda: last_line(inside.run(edgert, "check", PIPELINE)))
    yield Step("edgert run, subscribed outside", lambda: run_line(inside, edgert, PIPELINE, material))
    if package is not None:
        yield from _package_steps(inside, package, material)


def _package_steps(inside: ForeignRoot, package: Path, material: Material) -> Iterator[Step]:
    """What README's quick start for a board does, as far as it goes without systemd."""
    install = ("dpkg", "--install", f"/packages/{package.name}")
    yield Step("dpkg --install", lambda: last_line(inside.run(*install, timeout_s=300)))
    yield Step("edgert doctor --run", lambda: last_line(inside.run("edgert", "doctor", "--run")))
    line = partial(run_line, inside, "edgert", PIPELINE, material, is_listened_to=True)
    yield Step("edgert run and edgert listen", line)
    yield Step("edgert systemd install --root", lambda: _install_units(inside))
    remove = ("dpkg", "--remove", "edgert")
    yield Step("dpkg --remove", lambda: last_line(inside.run(*remove)))


def _unpack(inside: ForeignRoot, archive: Path) -> str:
    inside.unpack(archive, UNPACKED)
    kilobytes = int(inside.run("du", "-sk", UNPACKED).split()[0])
    return f"{archive.stat().st_size / 1e6:.1f} MB, {kilobytes * 1024 / 1e6:.1f} MB unpacked"


def doctor(inside: ForeignRoot, edgert: str) -> str:
    """Run `edgert doctor` and return what it says of the machine and of the host engine."""
    said = inside.run(edgert, "doctor")
    machine = next((line for line in said.splitlines() if " aarch64, " in line), None)
    engine = next((line.split() for line in said.splitlines() if line.split()[:1] == ["onnxruntime"]), None)
    if machine is None or engine is None or engine[1] == "no":
        raise CrossError(f"edgert doctor finds no arm64 machine or no host engine:\n{said}")
    return f"{machine.strip()}; onnxruntime {engine[1]}"


def _install_units(inside: ForeignRoot) -> str:
    inside.run("/bin/mkdir", "-p", IMAGE)
    said = inside.run("edgert", "systemd", "install", "demo", "--root", IMAGE, "--board", "orin")
    units = inside.run("find", IMAGE, "-name", "edgert@*")
    if "edgert@.service" not in units:
        raise CrossError(f"edgert systemd install wrote no edgert@.service:\n{said}")
    return f"{len(units.splitlines())} units and folders of drop-ins"


def last_line(text: str) -> str:
    """Return the last line that is not empty."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")

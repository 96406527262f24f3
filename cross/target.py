"""Targets: what a board is and has, read from targets/NAME.toml."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta

from edgert.config import Document, Options
from edgert.errors import ConfigError

TARGETS = Path(__file__).with_name("targets")

Version = Annotated[str, Meta(pattern=r"^\d+\.\d+$")]
DEBIAN_ARCHITECTURES = {"aarch64": "arm64", "x86_64": "amd64"}


class Wheels(Options, frozen=True, kw_only=True):
    """What comes from wheels: edgert's own dependencies and these."""

    extras: tuple[str, ...] = ()
    """Extras of edgert's pyproject.toml."""
    pins: tuple[str, ...] = ()
    """Requirements that go before those of requirements.lock, `numpy==1.26.4`."""
    without: tuple[str, ...] = ()
    """Distributions that are required and not carried: no module that runs needs them."""


class Board(Options, frozen=True, kw_only=True):
    """What comes from the board's own system."""

    depends: tuple[str, ...] = ()
    """Of the Debian package, beside Python and libc6."""
    recommends: tuple[str, ...] = ()
    suggests: tuple[str, ...] = ()
    """What compiles pycuda there."""
    modules: tuple[str, ...] = ()
    """Python modules: `tensorrt`."""
    libraries: tuple[str, ...] = ()
    """Native libraries that files of the bundle may need: `libcuda.so.1`."""
    cuda: Version | None = None
    tensorrt: Version | None = None
    compute: Version | None = None
    """Compute capability of its GPU, `8.7`."""


class Bundle(Options, frozen=True, kw_only=True):
    """What edgert's wheel and the package bring for this board."""

    kernels: tuple[Literal["kernels-cuda12-sm87.cubin", "kernels-cuda13.fatbin"], ...] = ()
    """Images of the preparation kernel, as cross/compile_kernels.py names them."""
    device_groups: tuple[str, ...] = ()
    """Groups that own its devices."""
    builds_pycuda: bool = False


class Target(Options, frozen=True, kw_only=True):
    """One kind of board."""

    description: str
    system: Literal["linux", "qnx"] = "linux"
    architecture: Literal["aarch64", "x86_64"]
    no_bundle: str = ""
    """Why there is none, and what there is instead."""
    python: Version = "3.10"
    glibc: Version = "2.35"
    glibcxx: str = "3.4.30"
    wheels: Wheels = Wheels()
    board: Board = Board()
    bundle: Bundle = Bundle()
    name: str = ""
    """Of its file; not written there."""

    @property
    def debian_architecture(self) -> str:
        """`arm64` or `amd64`."""
        return DEBIAN_ARCHITECTURES[self.architecture]

    @property
    def platforms(self) -> tuple[str, ...]:
        """Platform tags of wheels that its C library takes, the best first."""
        newest = int(self.glibc.partition(".")[2])
        modern = (f"manylinux_2_{minor}_{self.architecture}" for minor in range(newest, 16, -1))
        return (*modern, f"manylinux2014_{self.architecture}")


def target_names() -> list[str]:
    """Return the targets that there are, in order of their names."""
    return sorted(file.stem for file in TARGETS.glob("*.toml"))


def read_target(name: str, folder: Path = TARGETS) -> Target:
    """Read a target. Raises ConfigError, which says which name was probably meant."""
    names = sorted(file.stem for file in folder.glob("*.toml"))
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ConfigError(f"There is no target {name!r}; {hint}There are: {', '.join(names)}.")
    document = Document.load(folder / f"{name}.toml")
    if "name" in document.tree:
        raise ConfigError(f"{document.path}: unknown key 'name'; a target is called as its file")
    return Document(document.path, {**document.tree, "name": name}).as_type(Target)

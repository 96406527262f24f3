"""Locks: the wheels of a target, each by the SHA-256 of its file, as `sha256sum` writes and reads them."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import NamedTuple

from cross.errors import BundleError
from cross.target import Target
from edgert.disk import replace_file
from edgert.errors import ConfigError

LOCKS = Path(__file__).with_name("locks")
TOOLS = "tools"  # the lock of what runs on the machine that builds

_LINE = re.compile(r"([0-9a-f]{64})  (\S+)")
_WHEEL = re.compile(r"([^-]+)-([^-]+)(?:-\d[^-]*)?-([^-]+)-([^-]+)-([^-]+)\.whl")


class Pin(NamedTuple):
    """One file of the registry."""

    sha256: str
    file_name: str

    @property
    def distribution(self) -> str:
        """Its name as registries compare it: `paho-mqtt`."""
        return canonical_name(self._parts()[0])

    @property
    def version(self) -> str:
        """`2.2.0`."""
        return self._parts()[1]

    @property
    def requirement(self) -> str:
        """For pip: it takes this file and no other."""
        return f"{self.distribution}=={self.version} --hash=sha256:{self.sha256}"

    def _parts(self) -> tuple[str, ...]:
        match = _WHEEL.fullmatch(self.file_name)
        if match is None:
            raise ConfigError(f"{self.file_name}: no name of a wheel")
        return match.groups()

    def check_tags(self, target: Target) -> None:
        """Raise BundleError unless the wheel is for the target's Python, architecture and C library."""
        python, abi, platform = self._parts()[2:]
        if not _fits_python(python.split("."), abi.split("."), target.python):
            raise BundleError(
                f"{self.file_name} is for Python {python} ({abi}); {target.name} has {target.python}."
            )
        if platform != "any" and not set(platform.split(".")) & set(target.platforms):
            raise BundleError(
                f"{self.file_name} is for {platform}; {target.name} is {target.architecture} "
                f"with glibc {target.glibc}."
            )


def canonical_name(name: str) -> str:
    """Return a distribution's name as registries compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _fits_python(pythons: list[str], abis: list[str], version: str) -> bool:
    minor = int(version.partition(".")[2])
    if "py3" in pythons:
        return True
    if "abi3" in abis:
        return any(int(python[3:]) <= minor for python in pythons if python.startswith("cp3"))
    return f"cp3{minor}" in pythons


def lock_file(name: str, folder: Path = LOCKS) -> Path:
    """Return where the lock of a target, or of the tools, is."""
    return folder / f"{name}.lock"


def read_lock(file: Path) -> list[Pin]:
    """Read a lock. Raises ConfigError, which names the line or says how a lock is made."""
    try:
        lines = file.read_text("utf-8").splitlines()
    except FileNotFoundError:
        raise ConfigError(f"{file}: no such file. Make it: python -m cross lock {file.stem}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: cannot be read: {error}") from error
    return [
        _read_line(file, number, line) for number, line in enumerate(lines, 1) if line[:1] not in ("", "#")
    ]


def _read_line(file: Path, number: int, line: str) -> Pin:
    match = _LINE.fullmatch(line.rstrip())
    if match is None or "/" in match[2]:
        raise ConfigError(f"{file}:{number}: expected a SHA-256, two spaces and a file's name, not {line!r}")
    return Pin(match[1], match[2])


def write_lock(file: Path, pins: list[Pin], heading: str) -> None:
    """Write a lock, in order of the files' names. Raises OSError."""
    lines = (
        f"{pin.sha256}  {pin.file_name}\n" for pin in sorted(pins, key=lambda pin: pin.file_name.lower())
    )
    replace_file(file, "".join([f"# {heading}\n", *lines]).encode())


def sha256_of(file: Path) -> str:
    """Return the hash of a file's content. Raises OSError."""
    digest = hashlib.sha256()
    with file.open("rb") as opened:
        while block := opened.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()

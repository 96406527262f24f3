"""What is known of one wheel: its files, its licence, where it came from."""

from __future__ import annotations

import re
import zipfile
from email.parser import HeaderParser
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

from cross.errors import BundleError
from cross.lock import Pin, canonical_name

LICENCE_FILES = (
    "LICEN[CS]E*",
    "COPYING*",
    "NOTICE*",
    "AUTHORS*",
    "ThirdPartyNotices*",
    "*.LICEN[CS]E",
    "LICENSE-*",
)


class Distribution(NamedTuple):
    """A wheel that was unpacked into a bundle."""

    pin: Pin
    name: str
    version: str
    licence: str
    modules: frozenset[str]
    """Names of the files that are not of its .dist-info."""
    licence_texts: dict[str, bytes]
    """By their path: within the wheel, or from below its `licenses` folder."""

    @property
    def top_modules(self) -> frozenset[str]:
        """`google` of protobuf: the names that its modules begin with."""
        return frozenset(name.partition("/")[0].removesuffix(".py") for name in self.modules)


def read_distribution(wheel: Path, pin: Pin) -> Distribution:
    """Read a wheel's description. Raises BundleError if it has none."""
    with zipfile.ZipFile(wheel) as opened:
        names = [name for name in opened.namelist() if not name.endswith("/")]
        described = next((name for name in names if re.fullmatch(r"[^/]+\.dist-info/METADATA", name)), None)
        if described is None:
            raise BundleError(f"{wheel} is no wheel: it has no .dist-info/METADATA.")
        headers = HeaderParser().parsestr(opened.read(described).decode())
        info = described.removesuffix("METADATA")
        texts = {_short(name, info): opened.read(name) for name in names if is_licence(Path(name))}
    licence = _licence(headers.get_all("Classifier", []), headers["License-Expression"], headers["License"])
    files = frozenset(name for name in names if not name.startswith(info))
    return Distribution(pin, canonical_name(headers["Name"]), headers["Version"], licence, files, texts)


def is_licence(file: Path) -> bool:
    """Say whether a file of a wheel is for people to read what they may do with it."""
    if file.suffix in (".py", ".so"):
        return False
    is_of_folder = file.parent.name == "licenses" or ".dist-info/licenses/" in file.as_posix()
    return is_of_folder or any(fnmatch(file.name, pattern) for pattern in LICENCE_FILES)


def _short(name: str, info: str) -> str:
    return name.removeprefix(info).removeprefix("licenses/")


def _licence(classifiers: list[str], expression: str | None, text: str | None) -> str:
    """Return what the metadata says: an SPDX expression, a short text, or the classifiers'; may be empty."""
    if expression:
        return expression
    if text and "\n" not in text.strip() and len(text) < 80 and text.strip().upper() != "UNKNOWN":
        return text.strip()
    named = [line.rpartition(" :: ")[2] for line in classifiers if line.startswith("License :: ")]
    return ", ".join(named)

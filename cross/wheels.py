"""Fetches the wheels of a lock into a cache, and takes nothing from there whose hash is another."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from cross.errors import BundleError, CrossError
from cross.lock import Pin, sha256_of
from cross.progress import say

PIP_S = 1200.0  # for all wheels of a target over a slow line


def fetch(
    pins: list[Pin], platforms: tuple[str, ...], python: str, cache: Path, *, offline: bool
) -> list[Path]:
    """Return the wheels' files, all in `cache` and with the hashes that the lock says.

    Raises:
        BundleError: a file has another hash.
        CrossError: some are not in the cache and cannot be fetched.
    """
    cache.mkdir(parents=True, exist_ok=True)
    missing = [pin for pin in pins if not (cache / pin.file_name).is_file()]
    if missing and offline:
        raise CrossError(f"Not in {cache}, and --offline forbids fetching: {_names(missing)}.")
    if missing:
        say(f"fetch {len(missing)} of {len(pins)} wheels")
        _download(missing, platforms, python, cache)
    for pin in pins:
        check_hash(cache / pin.file_name, pin)
    return [cache / pin.file_name for pin in pins]


def check_hash(file: Path, pin: Pin) -> None:
    """Raise BundleError unless the file is the one that the lock means."""
    actual = sha256_of(file)
    if actual != pin.sha256:
        raise BundleError(
            f"{file} has SHA-256 {actual}; the lock says {pin.sha256}. Remove the file to fetch it again; "
            "if it comes back so, the registry's file was changed."
        )


def unpack(wheel: Path, folder: Path) -> None:
    """Unpack a wheel as pip would lay it into a site folder; scripts are left out. Raises BundleError."""
    try:
        with zipfile.ZipFile(wheel) as opened:
            for name in opened.namelist():
                if not name.endswith("/"):
                    _unpack_file(opened, name, folder, wheel)
    except (zipfile.BadZipFile, EOFError) as error:
        raise BundleError(f"{wheel} is no wheel: {error}") from error


def _unpack_file(opened: zipfile.ZipFile, name: str, folder: Path, wheel: Path) -> None:
    parts = Path(name).parts
    if name.startswith("/") or ".." in parts:
        raise BundleError(f"{wheel.name} has a file outside its folder: {name}")
    if parts[0].endswith(".data"):
        if parts[1] not in ("purelib", "platlib"):
            return
        parts = parts[2:]
    file = folder.joinpath(*parts)
    if file.exists():
        raise BundleError(f"{wheel.name} has {name}, and so has another wheel.")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(opened.read(name))


def _download(pins: list[Pin], platforms: tuple[str, ...], python: str, cache: Path) -> None:
    with tempfile.TemporaryDirectory(dir=cache, prefix=".fetch-") as folder:
        wanted = Path(folder, "requirements.txt")
        wanted.write_text("".join(f"{pin.requirement}\n" for pin in pins))
        try:
            run_pip(
                *("download", "-q", "--no-deps", "--require-hashes", "--dest", folder, "-r", str(wanted)),
                *for_platform(platforms, python),
            )
        except CrossError as error:
            raise CrossError(f"Not in {cache}, and cannot be fetched: {_names(pins)}. {error}") from error
        for pin in pins:
            file = Path(folder, pin.file_name)
            if not file.is_file():
                raise CrossError(f"The registry has another file than {pin.file_name} for this version.")
            file.replace(cache / pin.file_name)


def for_platform(platforms: tuple[str, ...], python: str) -> list[str]:
    """Return pip's arguments for wheels of another machine."""
    tags = [argument for platform in platforms for argument in ("--platform", platform)]
    return ["--only-binary=:all:", "--implementation", "cp", "--python-version", python, *tags]


def run_pip(*arguments: str) -> str:
    """Run this Python's pip, with its own configuration, and return what it printed. Raises CrossError."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PIP_S)
    except subprocess.TimeoutExpired as error:
        raise CrossError(f"pip {arguments[0]} did not end within {PIP_S:.0f} s.") from error
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        said = [line for line in lines if line.startswith("ERROR: ") and line != "ERROR: Exception:"]
        said = said or lines[-1:]  # of a traceback
        raise CrossError(f"pip {arguments[0]} failed: " + "\n  ".join(line.strip() for line in said))
    return done.stdout


def _names(pins: list[Pin]) -> str:
    names = [pin.file_name for pin in pins]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")

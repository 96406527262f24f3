"""The list of sampled frames, with their hashes, as it lies on disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec

from edgert.disk import replace_file
from edgert.errors import ConfigError, ModelError
from edgert.models.manifest import sha256_of

SAMPLE_FILE = "samples.json"
MAX_LIST_BYTES = 256 << 20


class SampleFrame(msgspec.Struct, frozen=True):
    """One frame that was sampled."""

    file: str  # relative to the list's folder, or absolute for a picture that stays where it is
    sha256: str  # of the file
    source: str  # where it came from, passwords masked, with '#' and its number there
    captured_utc_ns: int  # of a picture when its file was changed, of a clip see `clip_time`; 0: unknown


class SampleSet(msgspec.Struct, frozen=True):
    """Frames for three purposes. No picture is in two of them, and none twice in one."""

    calibration: tuple[SampleFrame, ...]
    selection: tuple[SampleFrame, ...]  # to choose thresholds by
    held_out: tuple[SampleFrame, ...]  # for the report alone
    seed: int
    choice: str
    offered: int  # frames that these were chosen from
    warnings: tuple[str, ...] = ()
    options: dict[str, Any] = {}  # what was asked for, passwords masked
    schema: Literal["edgert.samples/1"] = "edgert.samples/1"

    def frames(self) -> Iterator[SampleFrame]:
        """Yield the frames of all three."""
        yield from self.calibration
        yield from self.selection
        yield from self.held_out


def save_sample_set(sample_set: SampleSet, file: Path) -> None:
    """Write the list, down to the disk: a reader sees the old one, none, or all of it.

    Raises ConfigError.
    """
    content = msgspec.json.format(msgspec.json.encode(sample_set), indent=1)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        replace_file(file, content)
    except OSError as error:
        raise ConfigError(f"{file}: cannot be written: {error.strerror}") from error


def load_sample_set(file: Path) -> SampleSet:
    """Return the list, every frame of it read and found unchanged. Raises ConfigError naming what is not."""
    sample_set = read_sample_set(file)
    for frame in sample_set.frames():
        _check(file.parent / frame.file, frame, file)
    return sample_set


def read_sample_set(file: Path) -> SampleSet:
    """Return the list without looking at the frames. Raises ConfigError."""
    try:
        with file.open("rb") as opened:
            content = opened.read(MAX_LIST_BYTES + 1)
        if len(content) > MAX_LIST_BYTES:
            raise ConfigError(f"{file}: has more than {MAX_LIST_BYTES} bytes, which no list of samples has")
        return msgspec.json.decode(content, type=SampleSet)
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: is no list of samples: {error}") from error


def _check(path: Path, frame: SampleFrame, file: Path) -> None:
    if not path.is_file():
        raise ConfigError(f"{path}: is missing, and {file} lists it; remove {file} to sample anew")
    try:
        found = sha256_of(path)
    except ModelError as error:
        raise ConfigError(str(error)) from error
    if found != frame.sha256:
        raise ConfigError(
            f"{path}: has changed since it was sampled: found SHA-256 {found}, {file} says {frame.sha256}; "
            f"remove {file} to sample anew"
        )

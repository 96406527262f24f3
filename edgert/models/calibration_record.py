"""What is known of an INT8 model's accuracy: `<its file>.calibration.json` beside it in the store."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from edgert.disk import replace_file
from edgert.errors import ConfigError, ModelError
from edgert.models.files import is_file, read_text
from edgert.models.manifest import Sha256, SourceModel

RECORD_SUFFIX = ".calibration.json"
MAX_RECORD_BYTES = 1 << 20


class CalibrationRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One model or engine that `edgert calibrate` has put into the store. Unknown keys are ignored."""

    schema: Literal["edgert.calibrated/1"] = "edgert.calibrated/1"
    sha256: Sha256  # of the file beside it
    source: SourceModel  # the FP32 model
    made_utc: Annotated[datetime.datetime, msgspec.Meta(tz=True)]
    edgert: str  # its version
    method: str  # that chose the thresholds
    layers_int8: int
    layers_float: tuple[str, ...]
    verdict: str  # on the recipe's limits
    held_out_frames: int
    against_fp32: dict[str, float]  # over the held-out frames, by the names of `ComparisonFigures`
    measured: str  # with what


def record_path(file: Path) -> Path:
    """Return where the record of a model or engine file is, if it has one."""
    return file.with_name(file.name + RECORD_SUFFIX)


def write_record(file: Path, record: CalibrationRecord) -> None:
    """Write the record beside its file. A reader sees the old one or the new one. Raises ConfigError."""
    path = record_path(file)
    try:
        replace_file(path, msgspec.json.format(msgspec.json.encode(record)) + b"\n")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from error


def read_record(file: Path) -> CalibrationRecord | None:
    """Return the record of a file, None if it has none. Raises ModelError if it is not one."""
    path = record_path(file)
    if not is_file(path):
        return None
    try:
        return msgspec.json.decode(read_text(path, MAX_RECORD_BYTES), type=CalibrationRecord)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ModelError(f"{path}: not a calibration record that edgert knows: {error}") from error

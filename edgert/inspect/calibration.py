"""What a calibration has left beside a model or engine file: how near INT8 comes to FP32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from edgert.errors import ModelError
from edgert.models.calibration_record import read_record
from edgert.models.manifest import sha256_of


def report_calibration(file: Path) -> dict[str, Any]:
    """Return the record under `calibration`, or why it does not count; nothing where there is none.

    Reads the whole file, to see that the record is of it.
    """
    try:
        record = read_record(file)
        if record is None:
            return {}
        if sha256_of(file) != record.sha256:
            return {"calibration": f"none: the record beside it is of another file than {file.name}"}
    except ModelError as error:
        return {"calibration": f"none: {error}"}
    told: dict[str, Any] = msgspec.to_builtins(record)
    return {"calibration": {key: told[key] for key in told if key not in ("schema", "sha256")}}

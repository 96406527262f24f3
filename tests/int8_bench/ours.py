"""edgert's own quantization as the bench runs it: `edgert calibrate` in a process of its own.

Of the frames that others calibrate with, it keeps some back to choose by; none are added.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import msgspec

from tests.int8_bench.measured import Measured, Task, run_measured

SELECTION_SHARE = 0.3  # of the frames choose thresholds and layers
REPORTED_FRAMES = 2  # `edgert calibrate` compares at least these; the bench has its own that are held out
DECODE = {
    "fashion": {"kind": "classify"},
    "classify": {"kind": "classify"},
    "coco": {"kind": "ssd", "score_min": 0.4},
}


def quantize_with_edgert(task: Task, out: Path) -> Measured:
    """Write the recipe for `task`, run `edgert calibrate` with it, and put its Q/DQ model at `out`.

    Raises:
        QuantizationError: it failed, or wrote no model.
    """
    folder = out.parent
    made = folder / "work" / "model.int8.onnx"
    made.parent.mkdir()
    _write_model(folder / "store" / task.name, task)
    recipe = folder / "recipe.toml"
    recipe.write_text(_toml(_recipe(task)))
    measured = run_measured([sys.executable, "-m", "edgert.cli", "calibrate", str(recipe)], made, task.frames)
    shutil.copyfile(made, out)
    return measured._replace(model=out)


def _write_model(folder: Path, task: Task) -> None:
    (folder / "1").mkdir(parents=True)
    shutil.copyfile(task.model, folder / "1" / "model.onnx")
    (folder / "config.pbtxt").write_text(f'name: "{task.name}"\nplatform: "onnxruntime_onnx"\n')
    settings = {"prepare": msgspec.to_builtins(task.prepare), "decode": DECODE[task.name]}
    (folder / "edgert.toml").write_text(_toml(settings))


def _recipe(task: Task) -> dict[str, Any]:
    selection = round(task.frames * SELECTION_SHARE)
    sample = {
        "pictures": [str(task.pictures)],
        "max_frames": task.frames,
        "count": task.frames - selection - REPORTED_FRAMES,
        "selection_count": selection,
        "held_out_count": REPORTED_FRAMES,
    }
    return {"store": "store", "model": task.name, "work": "work", "sample": sample}


def _toml(tree: dict[str, Any]) -> str:
    """Return plain values and one depth of tables as TOML, whose values are written as JSON's."""
    plain = [f"{key} = {_value(value)}" for key, value in tree.items() if not isinstance(value, dict)]
    tables = [
        "\n".join(
            [f"[{name}]", *(f"{key} = {_value(value)}" for key, value in table.items() if value is not None)]
        )
        for name, table in tree.items()
        if isinstance(table, dict)
    ]
    return "\n\n".join(["\n".join(plain), *tables]) + "\n"


def _value(value: Any) -> str:
    return msgspec.json.encode(value).decode()

"""Runs edgert and the bare loop as processes of their own and reads what they measured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from edgert.demo.broker import stop_child
from edgert.stats import proportional_set_bytes

Json = dict[str, Any]
HERE = Path(__file__).parent
RUN_TIMEOUT_S = 600

COCO_PBTXT = """\
platform: "onnxruntime_onnx"
max_batch_size: {max_batch}
dynamic_batching {{ }}
instance_group [ {{ count: {lanes} }} ]
"""
COCO_TOML = """\
[prepare]
fit = "stretch"
mean = 127.5
scale = 0.00784313725
[decode]
kind = "ssd"
score_min = 0.4
"""
NOOP_PBTXT = """\
max_batch_size: 8
dynamic_batching { }
input [ { name: "image" data_type: TYPE_UINT8 dims: [ 480, 640, 3 ] } ]
output [ { name: "out" data_type: TYPE_FP32 dims: [ 1 ] } ]
"""
NOOP_TOML = """\
[engine]
runtime = "noop"
[decode]
kind = "tensors"
"""


class Run(NamedTuple):
    """What one run of edgert left behind."""

    report: Json
    published_ns: list[int]  # wall clock, of each line


def write_coco(store: Path, model: Path, *, lanes: int = 1, max_batch: int = 1) -> None:
    """Put the COCO detector into a store."""
    _write_model(store / "coco", COCO_PBTXT.format(lanes=lanes, max_batch=max_batch), COCO_TOML)
    (store / "coco" / "1" / "model.onnx").unlink(missing_ok=True)
    os.link(model, store / "coco" / "1" / "model.onnx")


def write_noop(store: Path) -> None:
    """Put a model that computes nothing into a store."""
    _write_model(store / "noop", NOOP_PBTXT, NOOP_TOML)


def write_pipeline(folder: Path, sources: Sequence[Json], sinks: str) -> Path:
    """Write a pipeline file with sources s0, s1, ...; returns its path."""
    tables = [_table(f"sources.s{index}", source) for index, source in enumerate(sources)]
    file = folder / "bench.toml"
    service = '[service]\nlog_level = "warning"\n'
    file.write_text("\n".join(['node = "bench"', 'store = "store"', *tables, sinks, service]))
    return file


def run_edgert(folder: Path, sources: Sequence[Json]) -> Run:
    """Run a finite pipeline with a lines sink to its end."""
    lines, report = folder / "lines.jsonl", folder / "report.json"
    lines.unlink(missing_ok=True)
    file = write_pipeline(
        folder, sources, f'[sinks.lines]\ntype = "lines"\npath = "{lines}"\nqueue = 100000\n'
    )
    subprocess.run([*edgert(), "run", str(file), "--report", str(report)], check=True, timeout=RUN_TIMEOUT_S)
    published_ns = [json.loads(line)["published_utc_ns"] for line in lines.read_text().splitlines()]
    return Run(json.loads(report.read_text()), published_ns)


def run_bare(folder: Path, model: Path, clip: Path, frames: int, threads: int, intra_op: int) -> Json:
    """Run the bare loop to its end."""
    out = folder / "bare.json"
    command = [sys.executable, str(HERE / "bare_loop.py"), str(model), str(clip), str(frames), str(threads)]
    subprocess.run([*command, str(intra_op), str(out)], check=True, timeout=RUN_TIMEOUT_S)
    result: Json = json.loads(out.read_text())
    return result


def edgert() -> list[str]:
    """Return the command that starts edgert here."""
    return [sys.executable, "-m", "edgert.cli"]


def rate(times_ns: Sequence[int], skip: int = 20) -> float:
    """Return events a second between the first after `skip` and the last."""
    ordered = sorted(times_ns)[skip:]
    return (len(ordered) - 1) / ((ordered[-1] - ordered[0]) / 1e9)


def pss_after(command: Sequence[str], warm_up_s: float, samples: int = 5) -> list[int]:
    """Return the PSS of a child at `samples` moments one second apart, after a warm-up."""
    child = subprocess.Popen(command)
    try:
        time.sleep(warm_up_s)
        taken = []
        for _ in range(samples):
            taken.append(proportional_set_bytes(child.pid))
            time.sleep(1)
        return taken
    finally:
        stop_child(child)


def _table(name: str, values: Json) -> str:
    return "\n".join([f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())])


def _write_model(folder: Path, pbtxt: str, toml: str) -> None:
    (folder / "1").mkdir(parents=True, exist_ok=True)
    (folder / "config.pbtxt").write_text(pbtxt)
    (folder / "edgert.toml").write_text(toml)

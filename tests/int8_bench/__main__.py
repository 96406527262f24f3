"""`make bench-int8`: edgert's INT8 quantization against others', on data that never calibrated.

python -m tests.int8_bench [--quick] [--only NAME ...] [--modelopt PYTHON] [--keep FOLDER] [--out FILE]

onnxruntime's quantizer is always there; nvidia-modelopt needs an environment of its own, whose interpreter
--modelopt or $BENCH_MODELOPT names. Each quantization is a process of its own.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from edgert.demo.material import default_cache, prepare_material
from edgert.errors import EdgertError
from edgert.exit_codes import exit_code_of
from tests.bench.figures import Row
from tests.int8_bench.comparison import OURS, Comparison
from tests.int8_bench.ours import quantize_with_edgert
from tests.int8_bench.packages import bench_cache
from tests.int8_bench.peers import Candidate, modelopt_peers, modelopt_version, onnxruntime_peers

NAMES = ("fashion", "classify", "coco")


def main() -> int:
    options = _parse()
    modelopt = modelopt_version(options.modelopt)
    rows: list[Row] = []
    try:
        with tempfile.TemporaryDirectory(prefix="edgert-int8-bench-") as name:
            for row in _rows(options, options.keep or Path(name), modelopt):
                verdict = "" if not row.limit else "met" if row.is_met else "MISSED"
                print(f"{row.figure:60} {row.value:84} {row.limit:26} {verdict}", flush=True)
                rows.append(row)
    except EdgertError as error:
        print(error, file=sys.stderr)
        return exit_code_of(error)
    options.out.write_text(json.dumps(_report(rows, modelopt), indent=2))
    print(f"\nwritten to {options.out}")
    return 0 if all(row.is_met for row in rows) else 1


def _rows(options: argparse.Namespace, folder: Path, modelopt: str) -> Iterator[Row]:
    material = prepare_material(default_cache(), print)
    candidates = onnxruntime_peers()
    if modelopt:
        candidates += modelopt_peers(options.modelopt)
    else:
        value = "not installed: name its interpreter with --modelopt or $BENCH_MODELOPT"
        yield Row("modelopt", value, "", True, {})
    candidates.append(Candidate(OURS, OURS, quantize_with_edgert))
    for name in options.only or NAMES:
        module = importlib.import_module(f"tests.int8_bench.{name}")
        workload = module.open_workload(
            bench_cache(), material, folder / name / "calibration", quick=options.quick
        )
        yield from Comparison(workload, folder / name).rows(candidates)


def _report(rows: list[Row], modelopt: str) -> dict[str, object]:
    machine = {
        "machine": platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "onnxruntime": version("onnxruntime"),
        "modelopt": modelopt,
    }
    utc = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return {"machine": machine, "utc": utc, "figures": [row._asdict() for row in rows]}


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.int8_bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the frames, to see that it runs")
    parser.add_argument("--only", nargs="*", default=[], choices=NAMES, help="names of networks")
    parser.add_argument("--modelopt", default=os.environ.get("BENCH_MODELOPT"), help="its interpreter")
    parser.add_argument("--keep", type=Path, help="an empty folder in which everything made stays")
    parser.add_argument("--out", type=Path, default=Path("int8_bench.json"))
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

"""`make bench-serve`: edgert's serving of models against a real tritonserver and a bare loop.

python -m tests.serve_bench [--quick] [--only NAME ...] [--tritonserver PYTHON] [--keep FOLDER] [--out FILE]

tritonserver is that of PyPI's nvidia-pytriton, in an environment of its own whose interpreter --tritonserver
or $BENCH_TRITONSERVER names; with onnxruntime there too it serves the detector. Server, client and loop share
the same two cores. Nothing is left behind, also after Ctrl-C.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import signal
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
from tests.serve_bench.bench import Bench
from tests.serve_bench.places import stay_on_cores
from tests.serve_bench.server import ServerError
from tests.serve_bench.triton import Triton, find_triton

NAMES = ("identity", "ssd", "start", "shared", "control", "poll", "fuzz")


def main() -> int:
    options = _parse()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    triton = find_triton(options.tritonserver)
    if options.tritonserver and triton is None:
        print(f"{options.tritonserver} has no nvidia-pytriton", file=sys.stderr)
        return 2
    rows: list[Row] = []
    try:
        with tempfile.TemporaryDirectory(prefix="edgert-serve-bench-") as name:
            for row in _rows(options, options.keep or Path(name), triton):
                _show(row)
                rows.append(row)
    except (EdgertError, ServerError) as error:
        print(error, file=sys.stderr)
        return exit_code_of(error) if isinstance(error, EdgertError) else 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    options.out.write_text(json.dumps(_report(rows, triton), indent=2))
    print(f"\nwritten to {options.out}")
    return 0 if all(row.is_met for row in rows) else 1


def _rows(options: argparse.Namespace, folder: Path, triton: Triton | None) -> Iterator[Row]:
    material = prepare_material(default_cache(), print)
    if material.coco is None:
        raise ServerError("the figures need the COCO detector: " + "; ".join(material.left_out))
    stay_on_cores()
    for name in options.only or NAMES:
        own = folder.absolute() / name
        own.mkdir(parents=True)
        module = importlib.import_module(f"tests.serve_bench.{name}")
        began_s = time.monotonic()
        yield from module.figures(Bench(own, triton, material.coco.model, options.quick))
        print(f"# {name}: {time.monotonic() - began_s:.0f} s", file=sys.stderr, flush=True)


def _show(row: Row) -> None:
    verdict = "" if not row.limit else "met" if row.is_met else "MISSED"
    print(f"{row.figure:74} {row.value:84} {row.limit:8} {verdict}", flush=True)


def _report(rows: list[Row], triton: Triton | None) -> dict[str, object]:
    machine = {
        "machine": platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "onnxruntime": version("onnxruntime"),
        "pytriton": triton.wheel if triton else "",
        "pytriton_onnxruntime": triton.onnxruntime if triton else "",
    }
    utc = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return {"machine": machine, "utc": utc, "figures": [row._asdict() for row in rows]}


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.serve_bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the work, to see that it runs")
    parser.add_argument("--only", nargs="*", default=[], choices=NAMES, help="names of figures")
    parser.add_argument(
        "--tritonserver", default=os.environ.get("BENCH_TRITONSERVER"), help="its interpreter"
    )
    parser.add_argument("--keep", type=Path, help="an empty folder in which stores and logs stay")
    parser.add_argument("--out", type=Path, default=Path("serve_bench.json"))
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

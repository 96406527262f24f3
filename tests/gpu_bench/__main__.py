"""`make gpu-bench`: prints a table of figures and writes gpu_bench.json after each of them.

python -m tests.gpu_bench [--quick] [--only NAME ...] [--out gpu_bench.json]
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
from pathlib import Path

from edgert.demo.material import default_cache
from edgert.device.opened import open_device
from edgert.errors import EdgertError
from tests.bench.figures import Row

NAMES = ("lanes", "requesters", "sources", "cycles", "memory")


def main() -> int:
    options = _parse()
    try:
        machine = _machine()
    except EdgertError as error:
        print(f"The figures need an NVIDIA GPU. {error}", file=sys.stderr)
        return 1
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="edgert-gpu-bench-") as name:
        folder = Path(name)
        _use_cache_in(folder)
        for figure in options.only or NAMES:
            for row in _measured(figure, folder, quick=options.quick):
                rows.append(row)
                _write(options.out, machine, rows)
    print(f"\nwritten to {options.out}")
    return 0 if all(row.is_met for row in rows) else 1


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.gpu_bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the work, to see that it runs")
    parser.add_argument("--only", nargs="*", default=[], choices=NAMES, help="names of figures")
    parser.add_argument("--out", type=Path, default=Path("gpu_bench.json"))
    return parser.parse_args()


def _measured(figure: str, folder: Path, *, quick: bool) -> Iterator[Row]:
    own = folder / figure
    own.mkdir(exist_ok=True)
    for row in importlib.import_module(f"tests.gpu_bench.{figure}").figures(own, quick=quick):
        verdict = "" if not row.limit else "met" if row.is_met else "MISSED"
        print(f"{row.figure:62} {row.value:70} {row.limit:14} {verdict}", flush=True)
        yield row


def _use_cache_in(folder: Path) -> None:
    """Keep what is compiled here out of the user's cache, but for the demo's material, which stays there."""
    demo, cache = default_cache(), folder / "cache"
    cache.mkdir()
    if demo.is_dir():
        (cache / "demo").symlink_to(demo.resolve())
    os.environ["EDGERT_CACHE"] = str(cache)


def _machine() -> dict[str, object]:
    device = open_device("cuda")
    facts = device.driver.attributes()
    device.close()
    import tensorrt_rtx

    return {
        "gpu": facts["name"],
        "compute_capability": facts["compute_capability"],
        "cuda": facts["cuda_version"],
        "tensorrt_rtx": tensorrt_rtx.__version__,
        "machine": platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
    }


def _write(out: Path, machine: dict[str, object], rows: list[Row]) -> None:
    utc = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    report = {"machine": machine, "utc": utc, "figures": [row._asdict() for row in rows]}
    out.write_text(json.dumps(report, indent=2))


if __name__ == "__main__":
    raise SystemExit(main())

"""`make bench`: prints a table of figures and writes bench.json.

python -m tests.bench [--quick] [--only NAME ...]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from edgert.demo.material import default_cache, prepare_material
from tests.bench import figures
from tests.bench.figures import Row


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the frames, to see that it runs")
    parser.add_argument("--only", nargs="*", default=[], help="names of figures")
    parser.add_argument("--out", type=Path, default=Path("bench.json"))
    options = parser.parse_args()
    material = prepare_material(default_cache(), print)
    if material.coco is None:
        print("The figures need the COCO detector.")
        return 1
    with tempfile.TemporaryDirectory(prefix="edgert-bench-") as name:
        chosen = _figures(
            Path(name), material.coco.model, material.street_clip, 0.1 if options.quick else 1.0
        )
        rows = [
            row
            for key, measure in chosen.items()
            if not options.only or key in options.only
            for row in _measured(measure)
        ]
    machine = {"machine": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()}
    report = {
        "machine": machine,
        "utc": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "figures": [row._asdict() for row in rows],
    }
    options.out.write_text(json.dumps(report, indent=2))
    print(f"\nwritten to {options.out}")
    return 0 if all(row.is_met for row in rows) else 1


def _figures(folder: Path, model: Path, clip: Path, share: float) -> dict[str, Callable[[], Iterator[Row]]]:
    frames = int(500 * share)
    return {
        "lanes": lambda: figures.lanes_against_bare_loop(folder, model, clip, frames),
        "sources": lambda: figures.many_sources(folder, model, clip, seconds=20 * share, total_fps=64),
        "noop": lambda: figures.carried_by_one_process(folder, int(40_000 * share)),
        "memory": lambda: figures.memory(folder, model, clip, int(100_000 * share)),
        "start": lambda: figures.start_to_first_result(folder, model, clip),
    }


def _measured(measure: Callable[[], Iterator[Row]]) -> Iterator[Row]:
    for row in measure():
        verdict = "" if not row.limit else "met" if row.is_met else "MISSED"
        print(f"{row.figure:46} {row.value:60} {row.limit:9} {verdict}", flush=True)
        yield row


if __name__ == "__main__":
    raise SystemExit(main())

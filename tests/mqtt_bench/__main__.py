"""`make bench-mqtt`: prints a table of figures of publishing, and writes mqtt_bench.json.

python -m tests.mqtt_bench [--quick] [--only NAME ...] [--out mqtt_bench.json]

Needs mosquitto; everything is on this machine, over loopback.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import sys
import tempfile
from pathlib import Path

from edgert.schedule.turns import SHORT_TURN_S
from tests.bench.figures import Row

NAMES = ("rate", "replay")


def main() -> int:
    options = _parse()
    sys.setswitchinterval(SHORT_TURN_S)  # as the service does
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="edgert-mqtt-bench-") as folder:
        for name in options.only or NAMES:
            own = Path(folder) / name
            own.mkdir()
            module = importlib.import_module(f"tests.mqtt_bench.{name}")
            for row in module.figures(own, quick=options.quick):
                verdict = "" if not row.limit else "met" if row.is_met else "MISSED"
                print(f"{row.figure:56} {row.value:64} {row.limit:10} {verdict}", flush=True)
                rows.append(row)
    machine = {"cores": len(os.sched_getaffinity(0)), "python": platform.python_version()}
    options.out.write_text(json.dumps({"machine": machine, "figures": [r._asdict() for r in rows]}, indent=2))
    print(f"\nwritten to {options.out}")
    return 0 if all(row.is_met for row in rows) else 1


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mqtt_bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the work, to see that it runs")
    parser.add_argument("--only", nargs="*", default=[], choices=NAMES, help="names of figures")
    parser.add_argument("--out", type=Path, default=Path("mqtt_bench.json"))
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

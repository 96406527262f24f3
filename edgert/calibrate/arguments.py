"""The command line of `edgert calibrate`. Imported by every command, so it imports nothing of weight."""

from __future__ import annotations

import argparse
from pathlib import Path

CALIBRATE_EXAMPLES = """examples:
  edgert calibrate calibration/coco.toml          from frames to an INT8 engine whose accuracy is known
  edgert calibrate calibration/coco.toml --json   the report on standard output
  edgert calibrate calibration/coco.toml --fresh  forget what an earlier run has made, frames too
  edgert calibrate calibration/coco.toml --check  read recipe and model, take one frame, and do no more
  edgert calibrate calibration/coco.toml --set sample.source=v4l2:/dev/video0 --set quantize.method=mse
A run that was stopped goes on where it was. Frames, report.html, report.json, model.int8.onnx and
calibration.cache are in the recipe's folder of work. Exit code 1: over a limit, nothing was activated."""


def add_calibrate(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "recipe", type=Path, metavar="RECIPE.toml", help="what to calibrate, with which frames"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="overrides",
        help="override a key of it",
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument("--fresh", action="store_true", help="begin anew: take the frames again too")
    parser.add_argument("--check", action="store_true", help="look whether all fits, and a frame comes")

"""`python -m edgert.demo.convert NAME SOURCE TARGET`: one conversion, in a process of its own."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from edgert.demo.convert import centerface, coco_ssd, efficientnet

CONVERTERS: dict[str, Callable[[Path, Path], None]] = {
    "centerface": centerface.convert,
    "coco_ssd": coco_ssd.convert,
    "efficientnet": efficientnet.convert,
}


def main(arguments: list[str]) -> None:
    """Convert the files in folder SOURCE to `model.onnx` and `labels.txt` in folder TARGET."""
    name, source, target = arguments
    CONVERTERS[name](Path(source), Path(target))


if __name__ == "__main__":
    main(sys.argv[1:])

"""Class names: COCO's table, and ImageNet's from the package that lists them."""

from __future__ import annotations

import json
from pathlib import Path

from edgert.errors import ModelError

UNUSED = "unused"

# COCO 2017's 80 categories at their ids 1 to 90; ten ids have none (Lin et al. 2014, arXiv 1405.0312).
_COCO_BY_ID = """
person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light,
fire hydrant, -, stop sign, parking meter, bench, bird, cat, dog, horse, sheep,
cow, elephant, bear, zebra, giraffe, -, backpack, umbrella, -, -,
handbag, tie, suitcase, frisbee, skis, snowboard, sports ball, kite, baseball bat, baseball glove,
skateboard, surfboard, tennis racket, bottle, -, wine glass, cup, fork, knife, spoon,
bowl, banana, apple, sandwich, orange, broccoli, carrot, hot dog, pizza, donut,
cake, chair, couch, potted plant, bed, -, dining table, -, -, toilet,
-, tv, laptop, mouse, remote, keyboard, cell phone, microwave, oven, toaster,
sink, refrigerator, -, book, clock, vase, scissors, teddy bear, hair drier, toothbrush
"""


def coco_labels() -> list[str]:
    """Return 90 names; item i is COCO's id i + 1, `unused` where COCO has no category."""
    names = [name.strip() for name in _COCO_BY_ID.split(",")]
    return [UNUSED if name == "-" else name for name in names]


def imagenet_labels(path: Path) -> list[str]:
    """Return the first name of each of ImageNet-1k's 1000 classes from `{"0": "tench, Tinca tinca", ...}`."""
    names: dict[str, str] = json.loads(path.read_text("utf-8"))
    if set(names) != {str(index) for index in range(1000)}:
        raise ModelError(f"{path}: expected the classes 0 to 999, found {len(names)} keys.")
    return [names[str(index)].split(",")[0].strip() for index in range(1000)]

"""The attributes of boards, as `tests/unit/device/boards` has them."""

from __future__ import annotations

import json
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "unit" / "device" / "boards"


def board_names():
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def read_board(name):
    return json.loads((FOLDER / f"{name}.json").read_text("utf-8"))


def attributes_of(name):
    return read_board(name)["attributes"]

"""Recipes with tiny models and few frames, for whole calibrations within a second."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
from onnx import helper

from tests.fakes.onnx_graphs import graph
from tests.fakes.store import Site

SETTINGS = '[prepare]\nfit = "stretch"\nscale = 0.00392\n[decode]\nkind = "classify"\n'
SIDE = 32
CLASSES = 6
FEW = "count = 8\nselection_count = 4\nheld_out_count = 6\n"


def classifier(seed=0, *, batch="batch", **changed):
    """Return a convolutional classifier with real arithmetic; `changed` constants replace its own."""
    random = np.random.default_rng(seed)

    def normal(*shape):
        return (random.normal(size=shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)

    nodes = [
        helper.make_node("Conv", ["image", "k1", "b1"], ["m1"], "first", strides=[2, 2]),
        helper.make_node("Relu", ["m1"], ["r1"]),
        helper.make_node("Conv", ["r1", "k2"], ["m2"], "second", strides=[2, 2]),
        helper.make_node("Relu", ["m2"], ["r2"]),
        helper.make_node("GlobalAveragePool", ["r2"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weights", "b3"], ["logits"], "last", transB=1),
    ]
    constants = {
        "k1": normal(8, 3, 3, 3),
        "b1": normal(8, 1)[:, 0],
        "k2": normal(12, 8, 3, 3),
        "weights": 4 * normal(CLASSES, 12),
        "b3": np.zeros(CLASSES, np.float32),
        **changed,
    }
    return graph(nodes, {"image": [batch, 3, SIDE, SIDE]}, {"logits": [batch, CLASSES]}, constants)


def product(*, rows=64):
    """Return a classifier of products alone."""
    random = np.random.default_rng(1)
    nodes = [
        helper.make_node("Flatten", ["image"], ["row"]),
        helper.make_node("MatMul", ["row", "w1"], ["hidden"], "first"),
        helper.make_node("Relu", ["hidden"], ["positive"]),
        helper.make_node("MatMul", ["positive", "w2"], ["logits"], "last"),
    ]
    constants = {
        "w1": (random.normal(size=(3 * SIDE * SIDE, rows)) / SIDE).astype(np.float32),
        "w2": random.normal(size=(rows, CLASSES)).astype(np.float32),
    }
    return graph(nodes, {"image": ["batch", 3, SIDE, SIDE]}, {"logits": ["batch", CLASSES]}, constants)


def detector():
    """Return an SSD of two classes, whose boxes come from a convolution with weights."""
    nodes = [
        helper.make_node("Conv", ["image", "k"], ["maps"], "first", strides=[16, 16]),
        helper.make_node("Sigmoid", ["maps"], ["shares"]),
        helper.make_node("Reshape", ["shares", "sides"], ["rows"]),
        helper.make_node("Slice", ["rows", "zero", "four", "axis"], ["corners"]),
        helper.make_node("Add", ["corners", "offsets"], ["boxes"]),
        helper.make_node("Slice", ["rows", "four", "six", "axis"], ["scores"]),
    ]
    constants = {
        "k": (np.random.default_rng(0).normal(size=(6, 3, 16, 16)) / 8).astype(np.float32),
        "sides": np.array([-1, 4, 6]),
        "zero": np.array([0]),
        "four": np.array([4]),
        "six": np.array([6]),
        "axis": np.array([2]),
        "offsets": np.array([[[-1, -1, 1, 1]]], np.float32) / 2,
    }
    return graph(
        nodes,
        {"image": ["batch", 3, SIDE, SIDE]},
        {"boxes": ["batch", 4, 4], "scores": ["batch", 4, 2]},
        constants,
    )


def blotch(number):
    """Return a picture of few colours that no other number has."""
    random = np.random.default_rng(number)
    small = random.integers(0, 256, (4, 4, 3), np.uint8)
    return cv2.resize(small, (SIDE, SIDE), interpolation=cv2.INTER_NEAREST)


class RecipeSite(Site):
    """A folder with a store, frames and a recipe."""

    def __init__(self, folder: Path, model=None, *, settings: str = SETTINGS) -> None:
        super().__init__(folder)
        self.add("tiny", (model or classifier()).SerializeToString(), settings=settings)
        self.work = folder / "recipe"

    def pictures(self, count=24, make=blotch) -> str:
        """Write pictures; return the `[sample]` key that names them."""
        folder = self.folder / "pictures"
        folder.mkdir(exist_ok=True)
        for number in range(count):
            assert cv2.imwrite(str(folder / f"{number:03}.png"), make(number))
        return 'pictures = ["pictures"]'

    def clip(self, count=40, make=blotch, frames_per_s=1.0) -> str:
        """Write a clip of that rate; return the `[sample]` key that names it."""
        codec = cv2.VideoWriter_fourcc(*"MJPG")
        writer = cv2.VideoWriter(str(self.folder / "clip.avi"), codec, frames_per_s, (SIDE, SIDE))
        for number in range(count):
            writer.write(make(number))
        writer.release()
        return 'source = "file:clip.avi"'

    def recipe(self, text: str = "", *, sample: str = "", few: str = FEW, top: str = "") -> Path:
        """Write recipe.toml with further tables `text`, keys of `[sample]`, and keys before all tables."""
        path = self.folder / "recipe.toml"
        frames = sample or 'pictures = ["pictures"]'
        path.write_text(f'store = "store"\nmodel = "tiny"\n{top}\n[sample]\n{frames}\n{few}\n{text}\n')
        return path

    def report(self) -> dict:
        """Return the report as it was written."""
        return json.loads((self.work / "report.json").read_text())

    def made(self) -> dict[str, bytes]:
        """Return all files of the folder of work."""
        files = (path for path in sorted(self.work.rglob("*")) if path.is_file())
        return {str(path.relative_to(self.work)): path.read_bytes() for path in files}

"""Tiny model stores and the pipeline files that use them; the models are real and their results known."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import onnx
import onnx.parser

from edgert.pipeline.file import PipelineFile

NOOP_CONFIG = """\
input [ { name: "image" data_type: TYPE_UINT8 dims: [ 8, 8, 3 ] } ]
output [ { name: "nothing" data_type: TYPE_FP32 dims: [ 1 ] } ]
"""
NOOP_SETTINGS = '[engine]\nruntime = "noop"\n'
EXACT = '[prepare]\nfit = "stretch"\n'  # a picture of the tensor's size gets into it as it is, in RGB

# What `ssd_model` always finds: two boxes as fractions (y1, x1, y2, x2), and the scores of two classes.
SSD_BOXES = ((0.25, 0.125, 0.75, 0.5), (0.0, 0.0, 0.5, 1.0))
SSD_SCORES = ((0.875, 0.125), (0.25, 0.75))

# What `ends_model` finds where the picture is dark enough: x1, y1, x2, y2, score, class.
ENDS_ROWS = ((1, 1, 5, 5, 0.875, 0), (2, 2, 8, 6, 0.5, 1), (0, 0, 4, 8, 0.25, 0))


class Site:
    """A folder with a model store and pipeline files beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = folder / "store"
        self.store.mkdir(exist_ok=True)
        self.lines = folder / "lines.jsonl"

    def add(
        self,
        name: str,
        model: bytes = b"",
        *,
        version: int = 1,
        config: str | None = None,
        settings: str | None = EXACT,
        labels: str | None = None,
    ) -> Path:
        """Write one version of a model, and the files beside it that are given; return its folder."""
        folder = self.store / name
        (folder / str(version)).mkdir(parents=True, exist_ok=True)
        if model:
            (folder / str(version) / "model.onnx").write_bytes(model)
        texts = {"config.pbtxt": config, "edgert.toml": settings, "labels.txt": labels}
        for file, text in texts.items():
            if text is not None:
                (folder / file).write_text(text)
        return folder

    def add_noop(self, name: str = "noop", config: str = "max_batch_size: 4\n") -> Path:
        """Write a model that computes nothing."""
        return self.add(name, config=config + NOOP_CONFIG, settings=NOOP_SETTINGS)

    def write(self, text: str, name: str = "pipeline.toml") -> Path:
        """Write a pipeline file for node `here`, this store and, if it names no sink, a file of lines."""
        sink = "" if "[sinks." in text else f'[sinks.lines]\ntype = "lines"\npath = "{self.lines}"\n'
        path = self.folder / name
        path.write_text(f'node = "here"\nstore = "store"\n{text}\n{sink}')
        return path

    def load(self, text: str) -> PipelineFile:
        """Write a pipeline file, and return it checked."""
        file = PipelineFile.load(self.write(text))
        file.check()
        return file

    def results(self) -> list[dict]:
        """Return what the lines sink has written."""
        return [json.loads(line) for line in self.lines.read_text().splitlines()]


def noise(frames: int, *, size: int = 8, seed: int = 0, total: int = 0) -> str:
    """Return the uri of pictures that `make_noise(size, size, frames, seed)` returns too."""
    return f"replay:noise?width={size}&height={size}&frames={frames}&seed={seed}&total={total}"


@functools.cache
def mean_model(offset: float = 0.0, batch: str = "batch", side: str = "8") -> bytes:
    """Return a model whose output `mean` has the mean of each channel, plus `offset`.

    `batch` and `side` are numbers, or names for what is variable.
    """
    sides = f"{side}y,{side}x" if not side.isdigit() else f"{side},{side}"
    return _model(
        f"(float[{batch},3,{sides}] image) => (float[{batch},3] mean)",
        f"offset = Constant <value = float {{{offset}}}> ()",
        "pooled = GlobalAveragePool(image)",
        "flat = Flatten(pooled)",
        "mean = Add(flat, offset)",
    )


@functools.cache
def flat_model() -> bytes:
    """Return a model that takes a picture as a row of 192 numbers and answers with one number, its mean."""
    return _model(
        "(float[batch,192] row) => (float[batch] level)",
        "level = ReduceMean <axes = [1], keepdims = 0> (row)",
    )


@functools.cache
def slow_model(products: int = 4) -> bytes:
    """Return a model as `mean_model`, about 10 ms slower for each of `products`."""
    chain = [f"m{index + 1} = MatMul(m{index}, m{index})" for index in range(products)]
    return _model(
        "(float[batch,3,8,8] image) => (float[batch,3] mean)",
        "nothing = Constant <value = float {0.0}> ()",
        "sides = Constant <value = int64[2] {1024, 1024}> ()",
        "level = ReduceMean <keepdims = 0> (image)",
        "zero = Mul(level, nothing)",
        "m0 = Expand(zero, sides)",
        *chain,
        f"rest = ReduceMean <keepdims = 0> (m{products})",
        "pooled = GlobalAveragePool(image)",
        "flat = Flatten(pooled)",
        "mean = Add(flat, rest)",
    )


@functools.cache
def ssd_model() -> bytes:
    """Return a detector that finds SSD_BOXES with SSD_SCORES in every picture."""
    return _model(
        "(float[batch,3,8,8] image) => (float[batch,2,4] boxes, float[batch,2,2] scores)",
        "nothing = Constant <value = float {0.0}> ()",
        f"fixed_boxes = Constant <value = float[1,2,4] {_values(SSD_BOXES)}> ()",
        f"fixed_scores = Constant <value = float[1,2,2] {_values(SSD_SCORES)}> ()",
        "levels = ReduceMean <axes = [1, 2, 3]> (image)",
        "zeros = Mul(levels, nothing)",
        "axis = Constant <value = int64[1] {3}> ()",
        "items = Squeeze(zeros, axis)",
        "boxes = Add(fixed_boxes, items)",
        "scores = Add(fixed_scores, items)",
    )


@functools.cache
def ends_model() -> bytes:
    """Return an end-to-end detector: of ENDS_ROWS, those with a score over the picture's mean / 255."""
    return _model(
        "(float[1,3,8,8] image) => (float[1,n,6] rows)",
        f"all = Constant <value = float[3,6] {_values(ENDS_ROWS)}> ()",
        f"scores = Constant <value = float[3] {_values([(row[4],) for row in ENDS_ROWS])}> ()",
        "white = Constant <value = float {255.0}> ()",
        "level = ReduceMean <keepdims = 0> (image)",
        "share = Div(level, white)",
        "kept = Greater(scores, share)",
        "some = Compress <axis = 0> (all, kept)",
        "axis = Constant <value = int64[1] {0}> ()",
        "rows = Unsqueeze(some, axis)",
    )


@functools.cache
def failing_model() -> bytes:
    """Return a model that fails in the engine on pictures brighter than 127."""
    return _model(
        "(float[1,3,8,8] image) => (float[1,1] picked)",
        *_IS_BRIGHT,
        "only = Constant <value = float[1] {42.0}> ()",
        "element = Gather(only, is_bright)",  # of a bright picture element 1, which there is not
        "row = Unsqueeze(element, first)",
        "picked = Unsqueeze(row, first)",
    )


@functools.cache
def undecodable_model() -> bytes:
    """Return an ssd detector that gives more scores than boxes for pictures brighter than 127."""
    return _model(
        "(float[1,3,8,8] image) => (float[1,anchors,4] boxes, float[1,others,2] scores)",
        *_IS_BRIGHT,
        f"boxes = Constant <value = float[1,2,4] {_values(SSD_BOXES)}> ()",
        f"few = Constant <value = float[1,2,2] {_values(SSD_SCORES)}> ()",
        "front = Constant <value = int64[4] {0, 0, 0, 0}> ()",
        "last = Constant <value = int64[1] {0}> ()",
        "more = Unsqueeze(is_bright, first)",
        "padding = Concat <axis = 0> (front, more, last)",
        "high = Constant <value = float {0.9}> ()",
        "scores = Pad(few, padding, high)",
    )


@functools.cache
def loose_model() -> bytes:
    """Return a model that takes batches and has an output whose first axis is something else, and empty."""
    return _model(
        "(float[batch,3,8,8] image) => (float[found,sides] boxes)",
        "levels = ReduceMean <axes = [1], keepdims = 0> (image)",
        "flat = Flatten(levels)",
        "limit = Constant <value = float {1000.0}> ()",
        "kept = Greater(flat, limit)",
        "places = NonZero(kept)",
        "rows = Transpose(places)",
        "numbers = Cast <to = 1> (rows)",
        "nothing = Constant <value = float {0.0}> ()",
        "level = ReduceMean <keepdims = 0> (image)",
        "zero = Mul(level, nothing)",
        "none = Cast <to = 7> (zero)",
        "ones = Constant <value = int64[2] {1, 1}> ()",
        "repeats = Add(ones, none)",  # known to the engine only when it runs
        "boxes = Tile(numbers, repeats)",
    )


_IS_BRIGHT = (
    "half = Constant <value = float {128.0}> ()",
    "level = ReduceMean <keepdims = 0> (image)",
    "share = Div(level, half)",
    "is_bright = Cast <to = 7> (share)",
    "first = Constant <value = int64[1] {0}> ()",
)


def _model(signature: str, *nodes: str) -> bytes:
    text = f'<ir_version: 8, opset_import: ["" : 17]>\ntiny {signature} {{\n' + "\n".join(nodes) + "\n}"
    model = onnx.parser.parse_model(text)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def _values(rows) -> str:
    return "{" + ", ".join(str(float(value)) for row in rows for value in row) + "}"

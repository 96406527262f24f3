"""Writes the demo's model store: a folder a model, as the Inference Server's repository has it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import msgspec

from edgert.demo.material import Material, ModelFiles


class StoreModel(msgspec.Struct, frozen=True):
    """The two files that describe a model."""

    config_pbtxt: str
    edgert_toml: str


COCO = StoreModel(
    """\
name: "coco"
platform: "onnxruntime_onnx"
max_batch_size: 4
input [ { name: "images" data_type: TYPE_FP32 dims: [ 3, 300, 300 ] } ]
output [
  { name: "boxes" data_type: TYPE_FP32 dims: [ 1917, 4 ] },
  { name: "scores" data_type: TYPE_FP32 dims: [ 1917, 90 ] }
]
instance_group [ { count: 1 } ]
dynamic_batching { }
""",
    """\
# SSDLite MobileNetV2: 90 COCO ids. It learnt on stretched pictures, so they are stretched here.
[prepare]
fit = "stretch"
colour = "rgb"
mean = 127.5
scale = 0.00784313725  # 1 / 127.5: -1..1

[decode]
kind = "ssd"
score_min = 0.4

[labels]
file = "labels.txt"
""",
)

FACE = StoreModel(
    """\
name: "face"
platform: "onnxruntime_onnx"
max_batch_size: 4
input [ { name: "images" data_type: TYPE_FP32 dims: [ 3, 160, 192 ] } ]
output [
  { name: "heatmap" data_type: TYPE_FP32 dims: [ 1, 40, 48 ] },
  { name: "scale" data_type: TYPE_FP32 dims: [ 2, 40, 48 ] },
  { name: "offset" data_type: TYPE_FP32 dims: [ 2, 40, 48 ] },
  { name: "landmarks" data_type: TYPE_FP32 dims: [ 10, 40, 48 ] }
]
instance_group [ { count: 1 } ]
dynamic_batching { }
""",
    """\
# CenterFace: takes pixels as they are.
[prepare]
fit = "letterbox"
pad = 0
colour = "rgb"

[decode]
kind = "centerface"
score_min = 0.5

[labels]
file = "labels.txt"
""",
)

CLASSIFY = StoreModel(
    """\
name: "classify"
platform: "onnxruntime_onnx"
max_batch_size: 4
input [ { name: "images" data_type: TYPE_FP32 dims: [ 3, 224, 224 ] } ]
output [ { name: "logits" data_type: TYPE_FP32 dims: [ 1000 ] } ]
instance_group [ { count: 1 } ]
dynamic_batching { }
""",
    """\
# EfficientNet-Lite0: 1000 ImageNet classes, given as logits.
[prepare]
fit = "crop"
keep = 0.875
colour = "rgb"
mean = 127.0
scale = 0.0078125  # 1 / 128

[decode]
kind = "classify"
activation = "softmax"
top_k = 5

[labels]
file = "labels.txt"
""",
)


def write_store(store: Path, material: Material, *, has_links: bool) -> tuple[str, ...]:
    """Write the models that `material` has into the folder `store` and return their names.

    Files that an earlier run wrote there are replaced. With `has_links` models are hard links into the cache
    where the file system allows it, and must not be written into; else they are copies.
    """
    described = {
        "coco": (COCO, material.coco),
        "face": (FACE, material.face),
        "classify": (CLASSIFY, material.classify),
    }
    present = {name: (model, files) for name, (model, files) in described.items() if files is not None}
    for name, (model, files) in present.items():
        _write_model(store / name, model, files, has_links)
    return tuple(present)


def _write_model(folder: Path, model: StoreModel, files: ModelFiles, has_links: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.pbtxt").write_text(model.config_pbtxt, "utf-8")
    (folder / "edgert.toml").write_text(model.edgert_toml, "utf-8")
    place(files.labels, folder / "labels.txt", has_links=has_links)
    place(files.model, folder / "1" / "model.onnx", has_links=has_links)


def place(source: Path, target: Path, *, has_links: bool) -> None:
    """Put a file of the cache there, as a hard link if that is wanted and possible, else as a copy."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    if not has_links:
        shutil.copyfile(source, target)
        return
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, target)

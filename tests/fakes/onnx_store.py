"""Stores of tiny ONNX models that requests can tell apart."""

from __future__ import annotations

import functools

import onnx
import onnx.parser

SIDE = 4


@functools.cache
def times(factor: float) -> bytes:
    """Return a model whose `Y` is `X` times a factor."""
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
    g (float[n,{SIDE}] X) => (float[n,{SIDE}] Y) {{
      factor = Constant <value = float {{{factor}}}> ()
      Y = Mul(X, factor)
    }}"""
    return onnx.parser.parse_model(text).SerializeToString()


def tensor(name, dims=SIDE):
    """Return a tensor as config.pbtxt says it."""
    return f'{{ name: "{name}" data_type: TYPE_FP32 dims: [{dims}] }}'


def add_times(store, name, factor, version=1, rest=""):
    """Write a version of a model that multiplies."""
    folder = store / name
    (folder / str(version)).mkdir(parents=True, exist_ok=True)
    (folder / str(version) / "model.onnx").write_bytes(times(factor))
    (folder / "config.pbtxt").write_text(
        f'platform: "onnxruntime_onnx" max_batch_size: 8 input [{tensor("X")}] output [{tensor("Y")}] {rest}'
    )
    return folder


def add_chain(store, name, *models, rest=""):
    """Write an ensemble of models one behind the other, each as (model, input, output) or a name."""
    steps = [model if isinstance(model, tuple) else (model, "X", "Y") for model in models]
    places = ["X", *(f"t{index}" for index in range(1, len(steps))), "Y"]
    written = ", ".join(
        f'{{ model_name: "{model}" model_version: -1 input_map {{ key: "{given}" value: "{places[index]}" }} '
        f'output_map {{ key: "{made}" value: "{places[index + 1]}" }} }}'
        for index, (model, given, made) in enumerate(steps)
    )
    folder = store / name
    (folder / "1").mkdir(parents=True, exist_ok=True)
    (folder / "config.pbtxt").write_text(
        f'platform: "ensemble" max_batch_size: 8 input [{tensor("X")}] output [{tensor("Y")}] '
        f"ensemble_scheduling {{ step [{written}] }} {rest}"
    )
    return folder

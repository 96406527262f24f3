"""Fashion-MNIST as arrays, and the network trained on it, as ONNX; kept in the cache."""

from __future__ import annotations

import gzip
import time
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgert.frames.result import Array
from tests.int8_bench.fashion_training import CHANNELS, KERNEL, Weights, train
from tests.int8_bench.packages import FASHION, package_folder

EPOCHS = 2
SEED = 1
SIDE = 28
_NAMES = {"train": "train", "test": "t10k"}
_HEADER_BYTES = {"images-idx3": 16, "labels-idx1": 8}


def fashion(cache: Path, part: str) -> tuple[Array, Array]:
    """Return pictures (n, 28, 28) uint8 and labels (n,) of the part `train` or `test`. Raises FetchError."""
    folder = package_folder(FASHION, cache)
    pictures = _read(folder, _NAMES[part], "images-idx3").reshape(-1, SIDE, SIDE)
    return pictures, _read(folder, _NAMES[part], "labels-idx1").astype(np.int64)


def fashion_model(cache: Path) -> Path:
    """Return the trained network; trains it, in about half a minute, if the cache lacks it."""
    place = cache / f"fashion-cnn-{EPOCHS}-{SEED}" / "model.onnx"
    if place.exists():
        return place
    pictures, labels = fashion(cache, "train")
    print("Training the Fashion-MNIST network", flush=True)
    began = time.monotonic()
    weights = train(pictures[..., None].astype(np.float32) / 255, labels, epochs=EPOCHS, seed=SEED)
    print(f"trained in {time.monotonic() - began:.0f} s", flush=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    made = place.with_suffix(".part")
    onnx.save(as_onnx(weights), made)
    made.rename(place)
    return place


def as_onnx(weights: Weights) -> onnx.ModelProto:
    """Return the network with opset 13: images (batch, 1, 28, 28), 0..1, to logits (batch, 10)."""
    nodes = [
        *_convolution("images", "1"),
        *_convolution("pool1", "2"),
        helper.make_node("Flatten", ["pool2"], ["flat"], name="flat"),
        helper.make_node("Gemm", ["flat", "dense.weight", "dense.bias"], ["logits"], name="logits"),
    ]
    tensors = [numpy_helper.from_array(value, name) for name, value in _in_onnx_order(weights).items()]
    inputs = [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 1, SIDE, SIDE])]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 10])]
    graph = helper.make_graph(nodes, "fashion", inputs, outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def _convolution(x: str, number: str) -> list[onnx.NodeProto]:
    conv, relu, pool = f"conv{number}", f"relu{number}", f"pool{number}"
    sides = {"kernel_shape": [KERNEL] * 2, "pads": [1] * 4}
    return [
        helper.make_node("Conv", [x, f"{conv}.weight", f"{conv}.bias"], [conv], name=conv, **sides),
        helper.make_node("Relu", [conv], [relu], name=relu),
        helper.make_node("MaxPool", [relu], [pool], name=pool, kernel_shape=[2, 2], strides=[2, 2]),
    ]


def _in_onnx_order(weights: Weights) -> Weights:
    """Channels come first in ONNX, last in training."""
    ordered = dict(weights)
    for name in ("conv1", "conv2"):
        flat = weights[f"{name}.weight"]
        kernel = flat.reshape(KERNEL, KERNEL, -1, flat.shape[1]).transpose(3, 2, 0, 1)
        ordered[f"{name}.weight"] = np.ascontiguousarray(kernel)
    dense = weights["dense.weight"].reshape(7, 7, CHANNELS[1], -1).transpose(2, 0, 1, 3)
    ordered["dense.weight"] = np.ascontiguousarray(dense.reshape(-1, dense.shape[3]))
    return ordered


def _read(folder: Path, name: str, kind: str) -> Array:
    data = gzip.decompress((folder / f"{name}-{kind}-ubyte.gz").read_bytes())
    return np.frombuffer(data, np.uint8, offset=_HEADER_BYTES[kind])

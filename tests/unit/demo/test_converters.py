"""The parts of the converters that need no published weights; system/ tests the networks themselves."""

from __future__ import annotations

import json

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgert.demo.convert import centerface, coco_ssd
from edgert.demo.convert.labels import UNUSED, coco_labels, imagenet_labels
from edgert.errors import ModelError


def test_coco_labels_stand_at_their_ids():
    labels = coco_labels()
    assert len(labels) == 90
    assert len([label for label in labels if label != UNUSED]) == 80
    at_id = {
        1: "person",
        13: "stop sign",
        44: "bottle",
        67: "dining table",
        88: "teddy bear",
        90: "toothbrush",
    }
    assert {number: labels[number - 1] for number in at_id} == at_id
    unused = [index + 1 for index, label in enumerate(labels) if label == UNUSED]
    assert unused == [12, 26, 29, 30, 45, 66, 68, 69, 71, 83]


def test_imagenet_labels_are_the_first_names_in_order(tmp_path):
    names = {str(index): f"name {index}, Latin {index}" for index in reversed(range(1000))}
    (tmp_path / "names.json").write_text(json.dumps(names))
    assert imagenet_labels(tmp_path / "names.json") == [f"name {index}" for index in range(1000)]


def test_imagenet_labels_with_a_hole_are_refused(tmp_path):
    (tmp_path / "names.json").write_text(json.dumps({"0": "tench", "2": "shark"}))
    with pytest.raises(ModelError, match="expected the classes 0 to 999, found 2 keys"):
        imagenet_labels(tmp_path / "names.json")


def write_tfjs(folder, shards):
    weights = [
        {"name": "a", "dtype": "float32", "shape": [2, 2]},
        {"name": "b", "dtype": "int32", "shape": []},
    ]
    group = {"paths": [f"shard{number}" for number in range(len(shards))], "weights": weights}
    (folder / "model.json").write_text(json.dumps({"weightsManifest": [group]}))
    for number, content in enumerate(shards):
        (folder / f"shard{number}").write_bytes(content)


def test_tensorflow_js_weights_run_over_their_shards(tmp_path):
    content = np.arange(4, dtype="<f4").tobytes() + np.int32(7).tobytes()
    write_tfjs(tmp_path, [content[:6], content[6:]])
    weights = coco_ssd.read_weights(tmp_path / "model.json")
    np.testing.assert_array_equal(weights["a"], [[0, 1], [2, 3]])
    assert weights["b"] == 7


def test_tensorflow_js_weights_that_do_not_fill_their_shards_are_refused(tmp_path):
    write_tfjs(tmp_path, [bytes(24)])
    with pytest.raises(ModelError, match="its weights take 20 bytes, the shards hold 24"):
        coco_ssd.read_weights(tmp_path / "model.json")


@pytest.fixture
def published():
    """Return a small network that has CenterFace's kinds of nodes, and its weights among the inputs."""
    random = np.random.default_rng(3)
    shapes = {"w": (4, 3, 3, 3), "b": (4,), "up": (4, 4, 2, 2), "gamma": (4,), "beta": (4,), "mean": (4,)}
    shapes |= {f"head{i}": (channels, 4, 1, 1) for i, channels in enumerate((1, 2, 2, 10))}
    weights = {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    weights["variance"] = np.full(4, 0.7, np.float32)
    nodes = [
        helper.make_node(
            "Conv", ["input.1", "w", "b"], ["x"], kernel_shape=[3, 3], strides=[8, 8], pads=[1, 1, 1, 1]
        ),
        helper.make_node("ConvTranspose", ["x", "up"], ["y"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node(
            "BatchNormalization", ["y", "gamma", "beta", "mean", "variance"], ["z"], epsilon=1e-3
        ),
        helper.make_node("Relu", ["z"], ["r"]),
        helper.make_node("Conv", ["r", "head0"], ["536"], kernel_shape=[1, 1]),
        helper.make_node("Sigmoid", ["536"], ["537"]),
        *(
            helper.make_node("Conv", ["r", f"head{i}"], [str(537 + i)], kernel_shape=[1, 1])
            for i in (1, 2, 3)
        ),
    ]
    inputs = [helper.make_tensor_value_info("input.1", TensorProto.FLOAT, [1, 3, 64, 32])]
    inputs += [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, value.shape) for name, value in weights.items()
    ]
    outputs = [helper.make_tensor_value_info(str(537 + i), TensorProto.FLOAT, None) for i in range(4)]
    initializers = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "published", inputs, outputs, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 9)], ir_version=4)


def test_centerface_gives_the_same_at_any_batch(published):
    converted = centerface.resize(published, 64, 32)
    images = np.random.default_rng(5).uniform(0, 255, (3, 3, 64, 32)).astype(np.float32)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # it warns of weights among the inputs
    before = onnxruntime.InferenceSession(published.SerializeToString(), options)
    after = onnxruntime.InferenceSession(converted.SerializeToString(), options)
    given = after.run(["heatmap", "scale", "offset", "landmarks"], {"images": images})
    for index in range(3):
        expected = before.run(None, {"input.1": images[index : index + 1]})
        for actual, wanted in zip(given, expected, strict=True):
            np.testing.assert_allclose(actual[index : index + 1], wanted, rtol=1e-3, atol=1e-3)


def test_centerface_has_no_weights_among_its_inputs_and_no_batch_norm(published):
    converted = centerface.resize(published, 96, 160)
    onnx.checker.check_model(converted, full_check=True)
    assert [value.name for value in converted.graph.input] == ["images"]
    assert "BatchNormalization" not in {node.op_type for node in converted.graph.node}
    shapes = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in converted.graph.output
    }
    assert shapes["landmarks"] == ["batch", 10, 24, 40]

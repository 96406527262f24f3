"""Models are read whole, or refused with a reason."""

from __future__ import annotations

import hashlib

import pytest

from edgert.build.onnx_file import read_onnx
from edgert.errors import ConfigError, ModelError
from tests.fakes.onnx_graphs import convolution, quantized, save


def test_it_knows_its_hash(tmp_path):
    path = save(tmp_path, convolution())
    assert read_onnx(path).sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_it_knows_whether_it_is_quantized(tmp_path):
    assert read_onnx(save(tmp_path, quantized())).is_quantized
    assert not read_onnx(save(tmp_path, convolution())).is_quantized


def test_a_file_that_is_not_there_is_an_option_that_is_wrong(tmp_path):
    with pytest.raises(ConfigError, match=r"absent.onnx: no such file; expected a model in ONNX form"):
        read_onnx(tmp_path / "absent.onnx")


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x08\x08"])
def test_a_file_that_is_no_model_is_named(tmp_path, content):
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"model.onnx: not a usable ONNX file: .* Export the model again"):
        read_onnx(path)


def test_external_data_that_is_missing_is_named(tmp_path):
    model = convolution()
    weights = model.graph.initializer[0]
    weights.data_location = 1
    weights.external_data.add(key="location", value="weights.bin")
    weights.ClearField("raw_data")
    with pytest.raises(ModelError, match=r"not a usable ONNX file: .*weights.bin"):
        read_onnx(save(tmp_path, model))

"""What a graph and a precision have to do with each other."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from edgert.build.graph import settle_graph
from edgert.build.onnx_file import read_onnx
from edgert.build.options import BuildOptions
from edgert.decode.tensors import TensorsOptions
from edgert.errors import ConfigError
from tests.fakes.onnx_graphs import convolution, quantized, save

OPTIONS = BuildOptions(model=Path("m.onnx"), store=Path("s"), name="m", runtime="tensorrt", precision="int8")


def settle(file, **stated):
    options = msgspec.structs.replace(OPTIONS, **stated)
    return settle_graph(file, options, TensorsOptions(), has_precision_flags=True)


@pytest.mark.parametrize(
    "stated", [{"calibrator": "MinMaxCalibration"}, {"calibration_cache": Path("c")}], ids=["frames", "cache"]
)
def test_a_float_graph_becomes_int8_by_calibration(tmp_path, stated):
    file = read_onnx(save(tmp_path, convolution()))
    assert settle(file, **stated) is file
    with pytest.raises(ConfigError, match="--precision int8, but the graph is not quantized"):
        settle(file)


def test_a_quantized_graph_has_one_precision(tmp_path):
    file = read_onnx(save(tmp_path, quantized()))
    assert settle(file) is file
    with pytest.raises(ConfigError, match="--precision fp16, but the graph is quantized"):
        settle(file, precision="fp16")

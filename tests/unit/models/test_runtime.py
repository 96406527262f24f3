"""Which runtime a model gets."""

from pathlib import Path

import pytest

from edgert.config import Document
from edgert.errors import ModelError
from edgert.models.model_config import ModelConfig
from edgert.models.runtime import FAMILY_OF_RUNTIME, platform_of, runtime_of

NOTHING = Document(Path("m/edgert.toml"), {})


def settings(runtime):
    return Document(Path("m/edgert.toml"), {"engine": {"runtime": runtime, "threads": 2}})


@pytest.mark.parametrize(
    ("config", "runtime"),
    [
        (ModelConfig(platform="tensorrt_plan"), "tensorrt"),
        (ModelConfig(backend="tensorrt"), "tensorrt"),
        (ModelConfig(platform="onnxruntime_onnx"), "onnxruntime"),
        (ModelConfig(backend="onnxruntime"), "onnxruntime"),
        (ModelConfig(backend="python"), "python"),
        (ModelConfig(platform="onnxruntime_onnx", backend="onnxruntime"), "onnxruntime"),
    ],
)
def test_platform_or_backend_tells(config, runtime):
    assert runtime_of(config, NOTHING) == runtime
    assert runtime_of(config, NOTHING, Path("model.bin")) == runtime


@pytest.mark.parametrize("runtime", sorted(FAMILY_OF_RUNTIME))
def test_edgert_toml_overrides(runtime):
    assert runtime_of(ModelConfig(platform="tensorrt_plan"), settings(runtime)) == runtime
    assert runtime_of(ModelConfig(platform="tensorflow_graphdef"), settings(runtime)) == runtime


@pytest.mark.parametrize(
    ("name", "runtime"),
    [
        ("model.onnx", "onnxruntime"),
        ("a.ONNX", "onnxruntime"),
        ("model.plan", "tensorrt"),
        ("x.engine", "tensorrt"),
    ],
)
def test_engine_file_tells_where_nothing_else_does(name, runtime):
    assert runtime_of(ModelConfig(), NOTHING, Path("m/1") / name) == runtime


@pytest.mark.parametrize("file", [None, Path("m/1/model.bin"), Path("m/1/model")])
def test_nothing_that_tells_is_an_error_with_the_remedy(file):
    with pytest.raises(
        ModelError,
        match=r'platform: "tensorrt_plan" or "onnxruntime_onnx", backend: "python", or \[engine\] runtime',
    ):
        runtime_of(ModelConfig(), NOTHING, file)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (ModelConfig(platform="ensemble"), "field platform: found 'ensemble', which has no engine"),
        (
            ModelConfig(platform="caffe2_netdef"),
            "field platform: found 'caffe2_netdef', expected \"tensorrt_plan\" or",
        ),
        (
            ModelConfig(backend="pytorch"),
            'field backend: found \'pytorch\', expected "tensorrt" or "onnxruntime" or "python"',
        ),
        (ModelConfig(platform="tensorrt_plan", backend="onnxruntime"), 'expected "tensorrt"'),
    ],
)
def test_foreign_or_contradicting_platform_is_refused(config, message):
    with pytest.raises(ModelError) as caught:
        runtime_of(config, NOTHING, Path("model.onnx"))
    assert message in str(caught.value)


@pytest.mark.parametrize("runtime", ["cuda", 3, ["tensorrt"], {"a": 1}])
def test_unknown_runtime_in_edgert_toml_is_refused(runtime):
    with pytest.raises(ModelError, match=r"m/edgert\.toml: engine\.runtime = .*: expected one of tensorrt, "):
        runtime_of(ModelConfig(), settings(runtime))


def test_platforms_of_runtimes():
    assert platform_of("tensorrt_rtx") == ("tensorrt_plan", "tensorrt")
    assert platform_of("python") == ("", "python")
    assert platform_of("onnxruntime") == ("onnxruntime_onnx", "onnxruntime")
    assert platform_of("noop") == platform_of("") == ("", "")

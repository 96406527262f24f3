"""The builder's configuration, on a stand-in of TensorRT 10: the real one needs a GPU."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgert.build.configure import configure, save_timing_cache
from edgert.build.options import BuildOptions
from edgert.build.shapes import parse_profile
from edgert.errors import ConfigError, DeviceError, ModelError
from tests.fakes.tensorrt_10 import Config, Flag, bindings, parsed


def options(runtime="tensorrt", **stated):
    return BuildOptions(model=Path("m.onnx"), store=Path("s"), name="m", runtime=runtime, **stated)


def configured(
    config=None, profiles=(), *, dla_cores=0, runtime="tensorrt", differences=None, calibrator=None, **stated
):
    network = parsed(bindings(**(differences or {})), config or Config(), dla_cores)
    return configure(network, options(runtime, **stated), profiles, "monitor", calibrator)


def test_profiles_come_in_order():
    profiles = [parse_profile("x=1x3"), parse_profile("x=1x3:4x3:8x3")]
    config = configured(profiles=profiles)
    assert config.profiles == [{"x": ((1, 3),) * 3}, {"x": ((1, 3), (4, 3), (8, 3))}]
    assert config.progress_monitor == "monitor"


def test_a_profile_that_is_refused_is_shown():
    with pytest.raises(ConfigError, match=r"TensorRT 10.3.0 refuses the profile \{'x': \[\[1, 3\]"):
        configured(Config(takes_profiles=False), [parse_profile("x=1x3")])


@pytest.mark.parametrize(
    ("precision", "flags"), [("fp32", []), ("fp16", [Flag.FP16]), ("int8", [Flag.FP16, Flag.INT8])]
)
def test_a_builder_that_chooses_precision_is_told(precision, flags):
    assert configured(precision=precision).flags == flags


def test_a_strongly_typed_builder_is_told_nothing():
    assert configured(precision="fp16", differences={"has_precision_flags": False}).flags == []


def test_inputs_that_vary_are_calibrated_with_the_first_profile():
    profiles = [parse_profile("x=1x3:2x3:4x3"), parse_profile("x=1x3:8x3:8x3")]
    calibrator = object()
    config = configured(profiles=profiles, precision="int8", calibrator=calibrator)
    assert config.int8_calibrator is calibrator
    assert config.calibration_shapes == {"x": ((1, 3), (2, 3), (4, 3))}


def test_inputs_that_do_not_vary_need_no_profile_to_calibrate_with():
    calibrator = object()
    config = configured(precision="int8", calibrator=calibrator)
    assert (config.int8_calibrator, config.calibration_shapes) == (calibrator, None)
    assert configured(profiles=[parse_profile("x=1x3")], precision="int8").calibration_shapes is None


def test_a_profile_that_cannot_be_calibrated_with_is_said():
    config = Config(takes_calibration_profile=False)
    with pytest.raises(ModelError, match=r"TensorRT 10.3.0 refuses to calibrate with its first profile"):
        configured(config, [parse_profile("x=1x3")], precision="int8", calibrator=object())


def test_memory_is_in_mebibytes():
    assert configured(workspace_mb=64).pools == {"workspace": 64 << 20}
    assert configured().pools == {}


def test_a_version_compatible_engine_carries_a_runtime_unless_lean_runs_it():
    assert configured(version_compatible=True).flags == [Flag.VERSION_COMPATIBLE]
    lean = configured(version_compatible=True, runtime="tensorrt_lean")
    assert lean.flags == [Flag.VERSION_COMPATIBLE, Flag.EXCLUDE_LEAN_RUNTIME]


@pytest.mark.parametrize(
    ("asked", "level"), [("ampere_plus", "ampere"), ("same_compute_capability", "same"), ("none", None)]
)
def test_hardware_compatibility_is_passed_on(asked, level):
    assert configured(hardware_compatibility=asked).hardware_compatibility_level == level


def test_a_dla_core_falls_back_to_the_gpu():
    config = configured(dla_core=1, precision="fp16", dla_cores=2)
    assert (config.default_device_type, config.DLA_core) == ("dla", 1)
    assert config.flags == [Flag.FP16, Flag.GPU_FALLBACK]


def test_a_dla_core_that_is_not_there_is_named():
    with pytest.raises(DeviceError, match=r"--dla-core 2: TensorRT 10.3.0 finds 2 DLA cores here"):
        configured(dla_core=2, precision="fp16", dla_cores=2)


def test_a_timing_cache_is_read_and_written(tmp_path):
    file = tmp_path / "timing.cache"
    config = configured(timing_cache=file)
    assert config.cache.content == b""
    save_timing_cache(config, file)
    assert file.read_bytes() == b"+timed"
    again = configured(timing_cache=file)
    assert again.cache.content == b"+timed"
    assert [path.name for path in tmp_path.iterdir()] == ["timing.cache"]


def test_a_timing_cache_of_another_device_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="was made by another version of TensorRT or on another device"):
        configured(Config(takes_cache=False), timing_cache=tmp_path / "timing.cache")


def test_a_timing_cache_that_cannot_be_written_is_named(tmp_path):
    config = configured(timing_cache=tmp_path / "absent" / "timing.cache")
    with pytest.raises(ConfigError, match=r"timing.cache: cannot be written: No such file"):
        save_timing_cache(config, tmp_path / "absent" / "timing.cache")

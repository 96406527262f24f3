"""What a runtime cannot do is said before anything is built."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgert.build.options import BuildOptions, Reduction, check_options, completed
from edgert.errors import ConfigError
from edgert.execute.tensorrt_bindings import Bindings, differences_of

MODEL = Path("detector.onnx")


def options(runtime="tensorrt", **stated):
    return BuildOptions(model=MODEL, store=Path("store"), name="detector", runtime=runtime, **stated)


def bindings(runtime, *version):
    import msgspec

    known = msgspec.structs.asdict(differences_of(runtime, version))
    return Bindings(module=None, runtime=runtime, version=version, **known)


RTX = bindings("tensorrt_rtx", 1, 4, 0)
TEN = bindings("tensorrt", 10, 3, 0)
ELEVEN = bindings("tensorrt", 11, 4, 0)


@pytest.mark.parametrize(
    ("runtime", "stated", "message"),
    [
        (RTX, {"version_compatible": True}, "TensorRT-RTX 1.4.0: --version-compatible: its plans run with"),
        (RTX, {"hardware_compatibility": "ampere_plus"}, "--hardware-compatible: give --compute"),
        (RTX, {"timing_cache": Path("t")}, "--timing-cache: it times nothing"),
        (RTX, {"dla_core": 0}, "--dla-core: it has no DLA; build with --runtime tensorrt"),
        (RTX, {"precision": "int8", "calibration_cache": Path("c")}, "--calibration-cache: it has no calib"),
        (TEN, {"compute": ("8.7",)}, "TensorRT 10.3.0: --compute: it builds for the GPU that it runs on"),
        (TEN, {"hardware_compatibility": "same_compute_capability"}, "needs 10.9 or later"),
        (TEN, {"dla_core": 0}, "the DLA has no FP32; give --precision fp16 or int8"),
        (TEN, {"calibration_cache": Path("c")}, "is for --precision int8, not fp32"),
        (ELEVEN, {"precision": "int8", "calibration_cache": Path("c")}, "INT8 stands in the model"),
    ],
)
def test_it_says_what_the_runtime_cannot_do(runtime, stated, message):
    with pytest.raises(ConfigError, match=message):
        check_options(options(runtime.runtime, **stated), runtime, has_device=True)


@pytest.mark.parametrize(
    ("runtime", "stated"),
    [
        (RTX, {"compute": ("8.6", "8.9"), "workspace_mb": 64, "precision": "fp16"}),
        (
            TEN,
            {"version_compatible": True, "timing_cache": Path("t"), "hardware_compatibility": "ampere_plus"},
        ),
        (TEN, {"precision": "int8", "calibration_cache": Path("c"), "dla_core": 1}),
        (TEN, {"precision": "fp16", "dla_core": 1, "fixed_batch": 4}),
        (ELEVEN, {"hardware_compatibility": "same_compute_capability"}),
    ],
)
def test_what_the_runtime_can_do_passes(runtime, stated):
    check_options(options(runtime.runtime, **stated), runtime, has_device=True)


def test_a_timing_cache_needs_a_gpu():
    with pytest.raises(ConfigError, match="--timing-cache: asks for a GPU, and there is none here"):
        check_options(options(timing_cache=Path("t")), TEN, has_device=False)


def test_all_complaints_come_at_once():
    with pytest.raises(ConfigError, match=r"--version-compatible.*--dla-core"):
        check_options(options("tensorrt_rtx", version_compatible=True, dla_core=0), RTX, has_device=False)


@pytest.mark.parametrize("runtime", ["tensorrt_lean", "tensorrt_dispatch"])
def test_runtimes_without_a_builder_need_version_compatible_engines(runtime):
    assert completed(options(runtime)).version_compatible
    assert not completed(options("tensorrt")).version_compatible


def test_the_summary_holds_what_was_asked_for_and_no_paths():
    asked = options(
        precision="fp16", batches=(1, 4), timing_cache=Path("/home/me/t.cache"), reduction=Reduction(9)
    )
    assert asked.summary() == {
        "runtime": "tensorrt",
        "precision": "fp16",
        "batches": (1, 4),
        "timing_cache": "t.cache",
        "reduction": {"top_k": 9, "boxes": None, "scores": None},
    }

"""One build, on a stand-in of TensorRT 10: what calibrates it, and what is raised when it fails."""

from __future__ import annotations

import io
import logging
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from edgert.build.calibration import calibrator_of_cache
from edgert.build.describe import EngineFacts
from edgert.build.options import BuildOptions
from edgert.build.plan import Job, build_plan, explain_build
from edgert.build.progress import BuildProgress
from edgert.build.shapes import parse_profile
from edgert.errors import ConfigError, ModelError, OutOfDeviceMemoryError, SourceError
from edgert.execute.tensorrt_calibrator import open_calibrator
from edgert.execute.tensorrt_log import Record
from edgert.models.tensor_spec import TensorSpec
from tests.fakes.tensorrt_10 import Config, Flag, bindings, calibrated, parsed

MODEL = Path("m.onnx")
CACHE = b"TRT-100300-EntropyCalibration2\nx: 3c010204\n"
OPTIONS = BuildOptions(
    model=MODEL,
    store=Path("s"),
    name="m",
    runtime="tensorrt",
    precision="int8",
    calibrator="EntropyCalibration2",
)
FACTS = EngineFacts((TensorSpec("x", "float32", (-1, 3)),), (TensorSpec("y", "float32", (-1, 2)),), 4)


class Feed:
    """Batches by their addresses, or what is raised instead of one."""

    batch_size = 2

    def __init__(self, *batches):
        self._batches = list(batches)
        self.cache = None

    def next_addresses(self, names):
        batch = self._batches.pop(0) if self._batches else None
        if isinstance(batch, BaseException):
            raise batch
        return batch

    def load(self):
        return None

    def save(self, cache):
        self.cache = cache


class Site:
    """A job, and what opens its calibrator."""

    def __init__(self, feed, build):
        self.config = Config()
        self.progress = BuildProgress("m", io.StringIO())
        self.inputs = None
        self.is_open = False
        self._feed = feed
        network = parsed(bindings(), self.config, build=build)
        log = SimpleNamespace(records=tuple)
        file = SimpleNamespace(path=MODEL, sha256="0" * 64)
        self.job = Job(OPTIONS, file, network, log, (parse_profile("x=1x3:2x3:4x3"),), FACTS)

    @contextmanager
    def open(self, bindings, inputs, progress):
        self.inputs, self.is_open = inputs, True
        yield open_calibrator(bindings.module, "EntropyCalibration2", self._feed, progress.cancel)
        self.is_open = False

    def build(self):
        return build_plan(self.job, self.progress, self.open)


def takes_all(config):
    """Return a plan, or none if the build was to end."""
    return b"plan" if calibrated(config, ["x"], CACHE) else None


def test_a_calibrator_is_open_for_one_build():
    feed = Feed([1], [2])
    site = Site(feed, takes_all)
    assert bytes(site.build().content) == b"plan"
    assert site.config.flags == [Flag.FP16, Flag.INT8]
    assert site.config.calibration_shapes == {"x": ((1, 3), (2, 3), (4, 3))}
    assert site.inputs == (TensorSpec("x", "float32", (2, 3)),)
    assert feed.cache == CACHE
    assert not site.is_open


@pytest.mark.parametrize("failure", [SourceError("the camera is gone"), KeyboardInterrupt("Ctrl-C")])
def test_what_ends_the_frames_comes_out_as_itself(failure):
    """The builder only sees that it is to end, and has no plan."""
    feed = Feed([1], failure)
    site = Site(feed, takes_all)
    with pytest.raises(type(failure)) as caught:
        site.build()
    assert caught.value is failure
    assert site.progress.is_cancelled
    assert feed.cache is None


def test_a_plan_from_a_part_of_the_frames_is_none():
    def heedless(config):
        calibrated(config, ["x"], CACHE)
        return b"plan"

    with pytest.raises(SourceError, match="the camera is gone"):
        Site(Feed([1], SourceError("the camera is gone")), heedless).build()


def test_a_cache_that_the_builder_refuses_ends_the_build(tmp_path):
    def asks_for_frames(config):
        assert config.int8_calibrator.read_calibration_cache() == CACHE
        assert config.int8_calibrator.get_batch(["x"]) is None
        return b"plan" if config.progress_monitor.step_complete("build", 0) else None

    (tmp_path / "c").write_bytes(CACHE)
    site = Site(None, asks_for_frames)
    with pytest.raises(
        ConfigError, match=r"--calibration-cache .*TensorRT refuses it; it was made by 10.3.0"
    ):
        build_plan(site.job, site.progress, calibrator_of_cache(tmp_path / "c"))


def test_a_build_that_is_ended_without_a_calibrator_is_interrupted():
    def ended(config):
        site.progress.cancel()

    site = Site(None, ended)
    with pytest.raises(KeyboardInterrupt):
        build_plan(site.job, site.progress)
    assert site.config.int8_calibrator is None


def test_a_build_that_fails_without_a_word_says_so():
    with pytest.raises(ModelError, match=r"m\.onnx: TensorRT 10\.3\.0 cannot build it"):
        build_plan(Site(None, lambda config: None).job, BuildProgress("m", io.StringIO()))


def test_a_layer_without_an_int8_kernel_is_explained():
    said = "IBuilder: MyelinCheckException: node.cpp:12: CHECK(x->dtype == y->dtype) failed."
    error = explain(said)
    assert isinstance(error, ModelError)
    assert str(error) == (
        "m.onnx: TensorRT-RTX 1.4.0 cannot build it: it has no INT8 kernel for one of the layers "
        "(TensorRT-RTX 1.4 has none for convolutions, 1.7 has). Build with --runtime tensorrt or a newer "
        "release, or the model before it was quantized with --precision fp16"
    )
    assert "INT8 kernel" not in str(explain(said, precision="fp16"))


def test_too_small_a_workspace_is_explained():
    error = explain("Could not find any implementation: insufficient workspace", workspace_mb=16)
    assert isinstance(error, OutOfDeviceMemoryError)
    assert "with a workspace of 16 MiB. Give more with --workspace-mb" in str(error)


def explain(text, **stated):
    options = msgspec.structs.replace(OPTIONS, **stated)
    return explain_build(MODEL, (Record(logging.ERROR, text),), options, "TensorRT-RTX 1.4.0")

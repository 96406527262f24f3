"""TensorRT 10's own calibration from a recipe, on a stand-in of its builder and the host's memory."""

from __future__ import annotations

import ctypes
import io

import msgspec
import numpy as np
import pytest

from edgert.build.progress import BuildProgress
from edgert.build.report import BuildReport
from edgert.calibrate import deliver as deliver_module
from edgert.calibrate.calibrator_route import (
    ALGORITHMS,
    TENSORRT_CACHE_FILE,
    CalibratorRoute,
    check_route,
)
from edgert.calibrate.deliver import deliver
from edgert.calibrate.recipe import load_recipe
from edgert.calibrate.sample.frame_files import FrameFolder
from edgert.calibrate.sample.sample_set import SampleFrame, SampleSet
from edgert.calibrate.setting import open_setting
from edgert.device.opened import open_device
from edgert.errors import ConfigError, DeviceError
from edgert.models.manifest import Manifest, SourceModel
from edgert.models.tensor_spec import TensorSpec
from tests.fakes.onnx_graphs import convolution
from tests.fakes.store import EXACT, Site
from tests.fakes.tensorrt_10 import Config, bindings, calibrated
from tests.unit.calibrate.sample_frames import picture
from tests.unit.calibrate.test_report import make_report

SIDE = 16
INPUTS = (TensorSpec("image", "float32", (2, 3, SIDE, SIDE)),)
CACHE = b"TRT-100300-EntropyCalibration2\nx: 3c010204\n"
ENTROPY = "EntropyCalibration2"


class Workshop:
    """A recipe with frames that were sampled, and builds that calibrate with them."""

    def __init__(self, folder, count=5):
        site = Site(folder)
        site.add("best", convolution().SerializeToString(), settings=EXACT)
        self.recipe_file = folder / "best.toml"
        self.write_recipe()
        self.setting = open_setting(load_recipe(self.recipe_file))
        self.work = folder / "best"
        frames = FrameFolder(self.work)
        self.frames = tuple(self._listed(frames, number) for number in range(count))
        self.stream = io.StringIO()

    def write_recipe(self, runtime="tensorrt", calibrator="entropy2"):
        self.recipe_file.write_text(
            'store = "store"\nmodel = "best"\n[sample]\nsource = "replay:noise"\n'
            f'[engine]\nruntime = "{runtime}"\ncalibrator = "{calibrator}"\n'
        )

    def _listed(self, frames, number):
        file = frames.write(number, picture(number, SIDE, SIDE), "bgr8")
        return SampleFrame(str(file.path.relative_to(self.work)), file.sha256, "replay:noise", 0)

    def build(self, algorithm=ENTROPY, release=(10, 3, 0), each=None, progress=None, frames=None):
        """Calibrate as a build does; return the batches that it saw, and the route."""
        seen, config = [], Config()
        route = CalibratorRoute(
            self.setting, algorithm, self.frames if frames is None else frames, lambda: open_device("host")
        )
        progress = progress or BuildProgress("best-int8", self.stream)

        def take(addresses):
            seen.append(values_at(addresses[0]))
            if each is not None:
                each(len(seen), progress)

        with route.open(bindings(release), INPUTS, progress) as calibrator:
            config.int8_calibrator, config.progress_monitor = calibrator, progress
            calibrated(config, ["image"], CACHE, take)
            calibrator.raise_failure()
        return seen, route

    @property
    def cache_file(self):
        return self.work / TENSORRT_CACHE_FILE


@pytest.fixture
def workshop(tmp_path):
    return Workshop(tmp_path)


def values_at(address):
    flat = np.ctypeslib.as_array((ctypes.c_float * (2 * 3 * SIDE * SIDE)).from_address(address))
    return flat.reshape(2, 3, SIDE, SIDE).copy()


def test_the_builder_sees_the_frames_as_the_main_route_does(workshop):
    seen, route = workshop.build()
    wanted = [frame.tensor for frame in workshop.setting.frames(workshop.frames)]
    assert len(wanted) == 5
    assert np.array_equal(
        np.concatenate(seen), np.stack([*wanted, wanted[-1]])
    )  # the last batch is filled up
    assert workshop.cache_file.read_bytes() == CACHE
    assert "EntropyCalibration2) with 5 frames. Thresholds and accuracy" in route.note


def test_each_batch_is_progress(workshop):
    fractions = []
    workshop.build(each=lambda count, progress: fractions.append(progress.fraction()))
    assert fractions == [pytest.approx(1 / 3), pytest.approx(2 / 3), 1.0]
    assert "best-int8: calibrate with frames" in workshop.stream.getvalue()


def test_the_cache_of_the_same_build_stands_for_the_frames(workshop):
    workshop.build()
    seen, route = workshop.build()
    assert seen == []
    assert f"with {TENSORRT_CACHE_FILE}, which an earlier run made of 5 frames" in route.note


@pytest.mark.parametrize(
    "changed",
    [
        lambda workshop: {"release": (10, 7, 0)},
        lambda workshop: {"algorithm": "MinMaxCalibration"},
        lambda workshop: {"frames": workshop.frames[:4]},
        lambda workshop: workshop.cache_file.write_bytes(CACHE.replace(b"3c", b"3d")) and {},
        lambda workshop: workshop.cache_file.unlink() or {},
    ],
    ids=["another TensorRT", "another algorithm", "other frames", "a changed cache", "no cache"],
)
def test_a_cache_that_does_not_fit_is_made_anew(workshop, changed):
    workshop.build()
    seen, _ = workshop.build(**changed(workshop))
    assert len(seen) >= 2
    assert workshop.cache_file.read_bytes() == CACHE


def test_a_build_that_fails_behind_the_calibration_leaves_the_cache(workshop):
    config, progress = Config(), BuildProgress("best-int8", workshop.stream)
    route = CalibratorRoute(workshop.setting, ENTROPY, workshop.frames, lambda: open_device("host"))

    def build():
        with route.open(bindings(), INPUTS, progress) as calibrator:
            config.int8_calibrator, config.progress_monitor = calibrator, progress
            calibrated(config, ["image"], CACHE)
            raise DeviceError("no memory for the tactics")

    with pytest.raises(DeviceError):
        build()
    assert workshop.build()[0] == []


def test_ctrl_c_ends_the_frames_at_the_next_batch(workshop):
    seen = []

    def interrupt(count, progress):
        seen.append(count)
        progress.cancel()

    with pytest.raises(KeyboardInterrupt):
        workshop.build(each=interrupt)
    assert seen == [1]
    assert not workshop.cache_file.exists()


def test_a_frame_that_is_gone_comes_out_as_itself(workshop):
    progress = BuildProgress("best-int8", workshop.stream)
    (workshop.work / workshop.frames[3].file).unlink()
    with pytest.raises(ConfigError, match=r"000003\.png: cannot be used: No such file"):
        workshop.build(progress=progress)
    assert progress.is_cancelled
    assert not workshop.cache_file.exists()


def test_all_memory_is_given_back(workshop):
    opened = open_device("host")
    route = CalibratorRoute(workshop.setting, ENTROPY, workshop.frames, lambda: opened)
    with route.open(bindings(), INPUTS, BuildProgress("b", workshop.stream)):
        assert opened.driver.budget.used_bytes == 2 * 4 * 2 * 3 * SIDE * SIDE  # on the host, and the device
    assert opened.driver.budget.used_bytes == 0


def test_a_recipe_names_the_algorithm(workshop):
    for name, algorithm in ALGORITHMS.items():
        workshop.write_recipe(calibrator=name)
        assert ALGORITHMS[load_recipe(workshop.recipe_file).options.engine.calibrator] == algorithm
    assert len(set(ALGORITHMS.values())) == 4


@pytest.mark.parametrize("runtime", ["tensorrt_rtx", "onnxruntime", "tensorrt_lean"])
def test_a_runtime_without_calibrators_is_refused_with_the_recipe(workshop, runtime):
    workshop.write_recipe(runtime)
    with pytest.raises(
        ConfigError, match=r'engine.calibrator = "entropy2": only TensorRT 10 and.*main route'
    ):
        load_recipe(workshop.recipe_file)


def test_a_release_without_calibrators_is_refused_before_frames_are_taken(workshop):
    options = workshop.setting.recipe.options.engine
    later = bindings((11, 1, 0), has_calibrators=False)
    with pytest.raises(
        ConfigError, match=r'best.toml: engine.calibrator = "entropy2": TensorRT 11.1.0 has no.*main route'
    ):
        check_route(workshop.setting, options, lambda runtime, needs_device=True: later)


def test_a_machine_without_a_gpu_is_refused_before_frames_are_taken(workshop):
    options, asked = workshop.setting.recipe.options.engine, []

    def load(runtime, needs_device=True):
        asked.append((runtime, needs_device))
        if needs_device:
            raise DeviceError("no CUDA driver")
        return bindings()

    with pytest.raises(DeviceError):
        check_route(workshop.setting, options, load)
    assert asked == [("tensorrt", False), ("tensorrt", True)]
    check_route(workshop.setting, msgspec.structs.replace(options, calibrator=None), load)
    assert len(asked) == 2


def test_a_model_without_a_batch_axis_is_refused(workshop):
    inputs = (TensorSpec("image", "float32", (3, SIDE, SIDE)),)
    info = msgspec.structs.replace(workshop.setting.info, inputs=inputs, batches=False)
    setting = msgspec.structs.replace(workshop.setting, info=info)
    with pytest.raises(ConfigError, match=r"model\.onnx has no batch axis, which calibrators need"):
        check_route(setting, setting.recipe.options.engine, lambda runtime, needs_device=True: bindings())


def test_the_engine_is_built_from_the_fp32_model(workshop, monkeypatch):
    """What TensorRT does is left out; what it is asked for is not."""
    asked = []

    def build_version(options, open_calibrator):
        asked.append((options, open_calibrator.__self__))
        manifest = Manifest(
            plan_sha256="0" * 64,
            plan_bytes=7,
            runtime="tensorrt",
            runtime_version="10.3.0",
            built_utc="2026-01-01T00:00:00Z",
            source=SourceModel("model.onnx", "0" * 64),
            agreement={"made": False, "reason": "no pictures"},
        )
        return BuildReport(
            model=options.name, version=1, file="f", manifest=manifest, seconds=1.0, written=(), removed=(),
            notes=("later",),
        )  # fmt: skip

    monkeypatch.setattr(deliver_module, "build_version", build_version)
    samples = SampleSet(workshop.frames[:3], (), workshop.frames[3:], 0, "reservoir", 5)
    options = workshop.setting.recipe.options.engine
    delivered = deliver(workshop.setting, options, workshop.work / "model.int8.onnx", samples, make_report())
    [(build, route)] = asked
    assert isinstance(route, CalibratorRoute)
    assert build.model == workshop.setting.model.file.path
    assert (build.precision, build.calibrator, build.name) == ("int8", ENTROPY, "best-int8")
    assert [path.name for path in build.frames] == ["000003.png", "000004.png"]
    assert build.summary()["calibrator"] == ENTROPY
    assert (delivered.model, delivered.version, delivered.size_bytes) == ("best-int8", 1, 7)
    assert delivered.notes == (route.note, "NOT compared with onnxruntime: no pictures", "later")

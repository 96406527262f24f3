"""TensorRT's calibrators, fed and asked as its builder does. tests/contract asks the real bindings."""

from __future__ import annotations

import ctypes
from types import SimpleNamespace

import numpy as np
import pytest

from edgert.calibrate.calibrators import CalibratorOptions, open_calibration
from edgert.device.memory import Budget
from edgert.errors import ConfigError, OutOfDeviceMemoryError, SourceError
from edgert.execute.tensorrt_bindings import Bindings, load_bindings
from edgert.execute.tensorrt_calibrator import CALIBRATORS, LegacyCutoffs
from edgert.models.calibration_cache import CalibrationCache
from edgert.models.tensor_spec import TensorSpec
from tests.fakes.noted_device import NotedDriver
from tests.fakes.tensorrt_10 import Calibrator

CACHE = b"TRT-100300-EntropyCalibration2\nx: 3c010204\n"
X = TensorSpec("x", "float32", (4, 2))


class Base(Calibrator):
    """Each algorithm has a class of its own."""


BASES = {name: type(name, (Base,), {}) for name in CALIBRATORS.values()}


def bindings(**differences):
    return Bindings(module=SimpleNamespace(**BASES), runtime="tensorrt", version=(10, 3, 0), **differences)


@pytest.fixture
def opened():
    """Return a function that opens a calibration; all are closed."""
    all_opened = []

    def open_one(batches, inputs=(X,), driver=None, on_batch=None, on_failure=lambda: None, **stated):
        options = CalibratorOptions(**stated)
        one = open_calibration(
            bindings(),
            inputs,
            batches,
            driver or NotedDriver(),
            options,
            on_batch=on_batch,
            on_failure=on_failure,
        )
        all_opened.append(one)
        return one

    yield open_one
    for one in all_opened:
        one.close()


def frames(*values):
    """Return a batch of x, one frame for each value."""
    return {"x": np.repeat(np.asarray(values, np.float32)[:, None], 2, axis=1)}


def build(calibration, names=("x",), cache=CACHE):
    """Do as TensorRT: take a cache or all frames, which are returned as they lie in memory, and write."""
    calibrator, seen = calibration.calibrator, []
    if calibrator.read_calibration_cache() is not None:
        return seen
    while (addresses := calibrator.get_batch(list(names))) is not None:
        seen.append([float_values(address) for address in addresses])
    calibrator.write_calibration_cache(memoryview(cache))
    return seen


def float_values(address):
    return np.ctypeslib.as_array((ctypes.c_float * 8).from_address(address)).reshape(4, 2)[:, 0].tolist()


def test_every_batch_lies_on_the_device_when_it_is_given(opened, tmp_path):
    file, counts, driver = tmp_path / "found.cache", [], NotedDriver()
    calibration = opened(
        [frames(1, 2, 3, 4), frames(5, 6, 7, 8)], driver=driver, cache=file, on_batch=counts.append
    )
    assert build(calibration) == [[[1, 2, 3, 4]], [[5, 6, 7, 8]]]
    calibration.raise_failure()
    assert [asked.what for asked in driver.asked if asked.verb == "copy"] == [32, 32]
    assert calibration.calibrator.initialised
    assert calibration.calibrator.get_batch_size() == 4
    assert counts == [1, 2]
    assert calibration.batches == 2
    assert file.read_bytes() == CACHE
    assert calibration.cache == CalibrationCache(100300, "EntropyCalibration2", {"x": pytest.approx(1 / 127)})


def test_a_batch_that_is_not_full_is_filled_with_its_frames(opened):
    assert build(opened([frames(1), frames(1, 2, 3)])) == [[[1, 1, 1, 1]], [[1, 2, 3, 1]]]


def test_inputs_come_in_the_order_that_tensorrt_asks_for(opened):
    inputs = (X, TensorSpec("y", "float32", (4, 2)))
    batch = {"y": frames(5, 6, 7, 8)["x"], **frames(1, 2, 3, 4)}
    assert build(opened([batch], inputs), ["y", "x"]) == [[[5, 6, 7, 8], [1, 2, 3, 4]]]


def test_frames_may_lie_in_memory_as_they_like(opened):
    turned = {"x": np.asfortranarray(frames(1, 2, 3, 4)["x"])[::-1]}
    assert build(opened([turned])) == [[[4, 3, 2, 1]]]


@pytest.mark.parametrize("algorithm", CALIBRATORS)
def test_each_algorithm_has_its_class(opened, algorithm):
    assert isinstance(opened([], algorithm=algorithm).calibrator, BASES[CALIBRATORS[algorithm]])


def test_the_legacy_one_is_told_where_to_cut(opened):
    cutoffs = LegacyCutoffs(quantile=0.99, regression_cutoff=0.5)
    calibrator = opened([], algorithm="LegacyCalibration", cutoffs=cutoffs).calibrator
    assert (calibrator.get_quantile(), calibrator.get_regression_cutoff()) == (0.99, 0.5)
    assert calibrator.read_histogram_cache(0) is None


@pytest.mark.parametrize("failure", [KeyboardInterrupt("Ctrl-C"), SourceError("camera.mp4: is gone")])
def test_what_a_source_raises_comes_out_of_the_build_as_itself(opened, tmp_path, failure):
    def camera():
        yield frames(1, 2, 3, 4)
        raise failure

    stopped = []
    calibration = opened(camera(), cache=tmp_path / "c", on_failure=lambda: stopped.append(True))
    assert len(build(calibration)) == 1
    with pytest.raises(type(failure)) as caught:
        calibration.raise_failure()
    assert caught.value is failure
    assert stopped == [True]
    assert list(tmp_path.iterdir()) == []  # half the frames make no cache


def test_what_hears_of_progress_may_end_it(opened):
    def interrupt(count):
        if count == 2:
            raise KeyboardInterrupt

    calibration = opened([frames(1)] * 5, on_batch=interrupt)
    assert len(build(calibration)) == 1
    assert calibration.calibrator.get_batch(["x"]) is None
    with pytest.raises(KeyboardInterrupt):
        calibration.raise_failure()
    assert calibration.batches == 2


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (
            frames(1, 2, 3, 4, 5),
            r"batch 0, input 'x': is float32 \(5, 2\), expected float32 \(4, 2\), or fewer",
        ),
        (frames(), r"is float32 \(0, 2\), expected"),
        ({"x": np.zeros((4, 3), np.float32)}, r"is float32 \(4, 3\), expected"),
        ({"x": np.zeros((), np.float32)}, r"is float32 \(\), expected"),
        ({"x": np.zeros((4, 2))}, r"is float64 \(4, 2\), expected float32"),
        (frames(1, float("nan")), "holds NaN or Inf, expected finite values"),
        (frames(1, float("-inf")), "holds NaN or Inf"),
        (
            {"z": np.zeros((4, 2), np.float32)},
            "batch 0 has the inputs z; expected x, and TensorRT asks for x",
        ),
    ],
)
def test_a_batch_that_does_not_fit_ends_the_calibration(opened, batch, message):
    calibration = opened([batch])
    assert build(calibration) == []
    with pytest.raises(ConfigError, match=message):
        calibration.raise_failure()


def test_no_frame_at_all_is_said(opened):
    calibration = opened([])
    build(calibration)
    with pytest.raises(ConfigError, match="no frame to calibrate with, expected one at least"):
        calibration.raise_failure()


def test_an_input_that_nobody_knows_is_named(opened):
    calibration = opened([frames(1)])
    assert build(calibration, ["x", "y"]) == []
    with pytest.raises(ConfigError, match="expected x, and TensorRT asks for x, y"):
        calibration.raise_failure()


@pytest.mark.parametrize("shape", [(-1, 2), (4, 0), ()])
def test_an_input_without_a_shape_to_calibrate_with_is_refused(opened, shape):
    with pytest.raises(ConfigError, match=r"Input 'x' has shape \[.*expected the shape to calibrate with"):
        opened([], [TensorSpec("x", "float32", shape)])


def test_memory_that_is_not_there_leaves_nothing_behind(opened):
    with pytest.raises(OutOfDeviceMemoryError):
        opened([], [X, TensorSpec("y", "float32", (1000, 1000))], NotedDriver(Budget(limit_bytes=4096)))


def test_a_device_that_fails_ends_the_calibration(opened):
    driver = NotedDriver()
    calibration = opened([frames(1)], driver=driver)
    driver.failures["copy"] = SourceError("the device is gone")
    assert build(calibration) == []
    with pytest.raises(SourceError, match="the device is gone"):
        calibration.raise_failure()


def test_a_cache_may_stand_for_the_frames(opened, tmp_path):
    file = tmp_path / "known.cache"
    file.write_bytes(CACHE)
    calibration = opened([frames(1)], cache=file, reuses_cache=True)
    assert calibration.calibrator.read_calibration_cache() == CACHE
    assert build(calibration) == []
    assert calibration.batches == 0
    assert calibration.cache.amax("x") == pytest.approx(1)


def test_a_cache_is_replaced_unless_it_may_be_reused(opened, tmp_path):
    file = tmp_path / "known.cache"
    file.write_bytes(b"of another model")
    assert build(opened([frames(1)], cache=file)) == [[[1, 1, 1, 1]]]
    assert file.read_bytes() == CACHE


def test_a_cache_that_is_not_there_yet_is_made(opened, tmp_path):
    file = tmp_path / "new.cache"
    assert len(build(opened([frames(1)], cache=file, reuses_cache=True))) == 1
    assert file.read_bytes() == CACHE


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"TRT-100300-EntropyCalibration2\nx: 3c0", r"known.cache:2: the file ends within 'x: 3c0'"),
        (
            b"TRT-100300-MinMaxCalibration\nx: 0\n",
            "was made with MinMaxCalibration, expected EntropyCalibration2",
        ),
    ],
)
def test_a_cache_that_cannot_be_reused_is_refused_before_the_build(opened, tmp_path, content, message):
    file = tmp_path / "known.cache"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        opened([], cache=file, reuses_cache=True)


def test_a_folder_that_is_not_there_is_named_before_the_build(opened, tmp_path):
    with pytest.raises(ConfigError, match=r"a/b.cache: expected a folder .*a to write the cache to"):
        opened([], cache=tmp_path / "a" / "b.cache")


def test_a_cache_that_cannot_be_written_comes_out_of_the_build(opened, tmp_path):
    folder = tmp_path / "full"
    folder.mkdir()
    calibration = opened([frames(1)], cache=folder / "c")
    folder.rmdir()
    build(calibration)
    with pytest.raises(ConfigError, match="calibration cache cannot be written: No such file"):
        calibration.raise_failure()


def test_a_cache_that_edgert_cannot_read_is_kept_and_said(opened, tmp_path):
    file = tmp_path / "c"
    calibration = opened([frames(1)], cache=file)
    assert calibration.cache is None
    build(calibration, cache=b"TRT-100300-NewCalibration\n")
    calibration.raise_failure()
    assert file.read_bytes() == b"TRT-100300-NewCalibration\n"
    with pytest.raises(ConfigError, match="TensorRT's cache:1: not a calibration cache"):
        _ = calibration.cache


def test_a_release_without_calibrators_says_what_to_do():
    later = bindings(has_calibrators=False)
    with pytest.raises(
        ConfigError, match=r"TensorRT 10.3.0 has no calibrators.*edgert calibrate insert Q/DQ"
    ):
        open_calibration(later, [X], [], NotedDriver(), CalibratorOptions())


def test_tensorrt_rtx_has_none_that_do_anything():
    pytest.importorskip("tensorrt_rtx")
    real = load_bindings("tensorrt_rtx", needs_device=False)
    with pytest.raises(ConfigError, match=r"TensorRT-RTX 1\.\d\.\d has no calibrators.*Q/DQ"):
        open_calibration(real, [X], [], NotedDriver(), CalibratorOptions())

"""Calibration caches of TensorRT 10 and older."""

from __future__ import annotations

import io
from contextlib import ExitStack
from types import SimpleNamespace

import pytest

from edgert.build.calibration import calibrator_of_cache
from edgert.build.progress import BuildProgress
from edgert.errors import ConfigError
from tests.fakes.tensorrt_10 import Calibrator


class MinMax(Calibrator):
    """Another class than the first."""


MODULE = SimpleNamespace(IInt8EntropyCalibrator2=Calibrator, IInt8MinMaxCalibrator=MinMax)


@pytest.fixture
def opened():
    """Return a function that opens the calibrator of a cache; all are closed."""
    with ExitStack() as undo:

        def open_one(path, module=MODULE, progress=None):
            open_calibrator = calibrator_of_cache(path)
            progress = progress or BuildProgress("coco", io.StringIO())
            return undo.enter_context(open_calibrator(SimpleNamespace(module=module), (), progress))

        yield open_one


def cache(tmp_path, content):
    path = tmp_path / "calibration.cache"
    path.write_bytes(content)
    return path


def test_the_first_line_chooses_the_algorithm(tmp_path, opened):
    entropy = opened(cache(tmp_path, b"TRT-8501-EntropyCalibration2\nx: 3c010a14\n"))
    minmax = opened(cache(tmp_path, b"TRT-100300-MinMaxCalibration\nx: 3c010a14\n"))
    assert not isinstance(entropy, MinMax)
    assert isinstance(minmax, MinMax)


def test_it_only_reads_the_cache(tmp_path, opened):
    path = cache(tmp_path, b"TRT-8501-EntropyCalibration2\nx: 3c010a14\n")
    calibrator = opened(path)
    assert calibrator.initialised
    assert calibrator.get_batch_size() == 1
    calibrator.write_calibration_cache(b"other")
    assert (
        path.read_bytes()
        == calibrator.read_calibration_cache()
        == b"TRT-8501-EntropyCalibration2\nx: 3c010a14\n"
    )
    calibrator.raise_failure()


def test_tensorrt_gets_what_was_understood(tmp_path, opened):
    path = cache(tmp_path, b"TRT-8501-EntropyCalibration2\r\nx: 3C010A14\r\ny: 00000000")
    read = opened(path).read_calibration_cache()
    assert read == b"TRT-8501-EntropyCalibration2\nx: 3c010a14\ny: 0\n"


def test_a_cache_that_tensorrt_refuses_is_named_after_the_build(tmp_path, opened):
    progress = BuildProgress("coco", io.StringIO())
    path = cache(tmp_path, b"TRT-8501-MinMaxCalibration\nx: 3c010a14\n")
    calibrator = opened(path, progress=progress)
    assert calibrator.get_batch(["x"]) is None
    assert progress.is_cancelled  # the builder would go on with no ranges at all
    with pytest.raises(
        ConfigError, match=r"TensorRT refuses it; it was made by 8.5.1 with MinMaxCalibration"
    ):
        calibrator.raise_failure()


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"TRT-8501-Magic\n", b"8501-EntropyCalibration2\n", b"\xff\xfe"]
)
def test_another_file_is_refused(tmp_path, opened, content):
    with pytest.raises(ConfigError, match="expected TRT-<version>- and one of EntropyCalibration2, MinMax"):
        opened(cache(tmp_path, content))


def test_a_damaged_cache_is_refused_with_the_line(tmp_path, opened):
    path = cache(tmp_path, b"TRT-8501-EntropyCalibration2\nx: 3c010a14\ny: 3c0")
    with pytest.raises(ConfigError, match=rf"--calibration-cache {path}:3: the file ends within 'y: 3c0'"):
        opened(path)


def test_an_absent_file_is_named(tmp_path, opened):
    with pytest.raises(ConfigError, match=r"absent: cannot be read: No such file"):
        opened(tmp_path / "absent")


def test_the_real_class_of_tensorrt_rtx_takes_it(tmp_path, opened):
    """Its calibrators do nothing any more, but their classes are those of TensorRT 10."""
    module = pytest.importorskip("tensorrt_rtx")
    if not hasattr(module, "IInt8EntropyCalibrator2"):
        pytest.skip("this release has no calibrators")
    path = cache(tmp_path, b"TRT-100300-EntropyCalibration2\nx: 3c010a14\n")
    calibrator = opened(path, module)
    assert isinstance(calibrator, module.IInt8EntropyCalibrator2)
    assert calibrator.get_algorithm() == module.CalibrationAlgoType.ENTROPY_CALIBRATION_2

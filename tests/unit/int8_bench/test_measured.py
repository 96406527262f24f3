"""What a quantization took, and what becomes of one that fails."""

import sys

import numpy as np
import pytest

from tests.int8_bench.measured import QuantizationError, run_measured

WRITE = "import sys, pathlib; pathlib.Path(sys.argv[1]).write_text('model'); "


def run(code, out):
    return run_measured([sys.executable, "-I", "-S", "-c", code, str(out)], out, 7)


def test_the_memory_is_the_command_s_own(tmp_path):
    ballast = np.ones(40_000_000)  # 320 MB in this process, which starts the other
    small = run(WRITE, tmp_path / "small.onnx")
    large = run(WRITE + "held = bytearray(200_000_000)", tmp_path / "large.onnx")
    assert ballast[-1] == 1
    assert small.peak_rss_bytes < 60e6
    assert 200e6 < large.peak_rss_bytes < 260e6


def test_time_frames_and_the_call_s_time_are_told(tmp_path):
    out = tmp_path / "int8.onnx"
    measured = run(WRITE + "print('call_s=0.5'); print('Bye')", out)
    assert (measured.model, measured.frames, measured.call_s) == (out, 7, 0.5)
    assert 0 < measured.wall_s < 60
    assert run(WRITE, tmp_path / "quiet.onnx").call_s is None


def test_a_failure_says_the_last_line(tmp_path):
    with pytest.raises(QuantizationError, match="status 1: ValueError: opset 9"):
        run("raise ValueError('opset 9')", tmp_path / "int8.onnx")


def test_a_killed_process_is_a_failure(tmp_path):
    with pytest.raises(QuantizationError, match="status -9"):
        run(WRITE + "import os; os.kill(os.getpid(), 9)", tmp_path / "int8.onnx")


def test_no_model_is_a_failure(tmp_path):
    with pytest.raises(QuantizationError, match="status 0"):
        run("print('all well')", tmp_path / "int8.onnx")


def test_temporary_files_stay_beside_the_model(tmp_path):
    run(WRITE + "import tempfile; tempfile.mkstemp(suffix='.left')", tmp_path / "int8.onnx")
    assert len(list(tmp_path.glob("*.left"))) == 1

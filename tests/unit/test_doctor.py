"""`edgert doctor`: what is here, and the test of the whole line."""

from __future__ import annotations

import gc
import signal
import sys

import pytest

from edgert import doctor
from edgert.cli import main
from edgert.errors import ModelError
from edgert.exit_codes import ExitCode


@pytest.fixture(autouse=True)
def process_as_it_was():
    """Take back what a service changes in its process."""
    interval, handler = sys.getswitchinterval(), signal.getsignal(signal.SIGTERM)
    yield
    assert signal.getsignal(signal.SIGTERM) is handler
    sys.setswitchinterval(interval)
    gc.unfreeze()


def test_it_names_every_part_and_what_is_missing(capsys):
    assert main(["doctor"]) == ExitCode.OK
    text = capsys.readouterr().out
    titles = [line for line in text.splitlines() if not line.startswith(" ")]
    assert titles == ["edgert", "machine", "board", "libraries", "OpenCV", "engines", "programs"]
    for name in (
        "numpy",
        "onnxruntime",
        "tensorrt",
        "tensorrt_lean",
        "tensorrt_dispatch",
        "pycuda",
        "mosquitto",
    ):
        assert f"\n  {name} " in text
    assert "cores" in text
    assert "/dev/shm" in text


def test_library_that_cannot_be_imported_is_told_with_reason_and_remedy(tmp_path, monkeypatch):
    (tmp_path / "broken_library.py").write_text("raise OSError('libnv.so: no such file\\nsecond line')\n")
    monkeypatch.syspath_prepend(tmp_path)
    line = doctor._module_line("broken_library", "plans", "apt install it")
    assert line == "broken_library     no   plans: libnv.so: no such file. apt install it"
    line = doctor._module_line("absent_library", "plans", "apt install it")
    assert line == "absent_library     no   plans: No module named 'absent_library'. apt install it"


def test_version_is_the_module_s_own_where_it_has_one(tmp_path, monkeypatch):
    (tmp_path / "from_jetpack.py").write_text("__version__ = '8.6.2'\n")
    (tmp_path / "without_version.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    assert doctor._module_line("from_jetpack", "plans", "").split() == ["from_jetpack", "8.6.2", "plans"]
    assert doctor._module_line("without_version", "plans", "").split() == ["without_version", "yes", "plans"]
    assert doctor._module_line("prometheus_client", "metrics", "").split()[1][0].isdigit()


def test_run_sends_pictures_through_the_whole_line(capsys):
    assert main(["doctor", "--run"]) == ExitCode.OK
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines[:3]] == ["frame 0", "frame 1", "frame 2"]
    assert lines[-1] == "Test passed!"


@pytest.mark.parametrize("failure", [ModelError("bad engine"), ImportError("No module named 'cv2'")])
def test_run_that_fails_says_so(capsys, monkeypatch, failure):
    def fail(_):
        raise failure

    monkeypatch.setattr(doctor, "_run_tiny", fail)
    assert main(["doctor", "--run"]) == ExitCode.DEVICE
    assert capsys.readouterr().out == f"Test failed: {failure}\n"


def test_run_that_returns_something_else_fails():
    with pytest.raises(ModelError, match=r"the line returned .* expected"):
        doctor._check_means([{"tensors": [{"data": [1, 2, 3]}]}] * 3)
    with pytest.raises(ModelError):
        doctor._check_means([])

"""`edgert doctor`: what is here, and the test of the whole line."""

from __future__ import annotations

import gc
import signal
import sys
from functools import partial
from types import ModuleType

import pytest

from edgert import doctor
from edgert.cli import main
from edgert.device.memory import MemoryKind
from edgert.errors import DeviceError, DeviceLostError, ModelError
from edgert.exit_codes import ExitCode
from tests.fakes import gpu as fake_gpu
from tests.fakes.boards import attributes_of
from tests.fakes.gpu import FakeGpu


@pytest.fixture(autouse=True)
def process_as_it_was(frozen_again):
    """Take back what a service changes in its process."""
    interval, handler = sys.getswitchinterval(), signal.getsignal(signal.SIGTERM)
    gc.freeze()
    yield
    assert signal.getsignal(signal.SIGTERM) is handler
    sys.setswitchinterval(interval)
    gc.unfreeze()


@pytest.fixture
def put_gpu(monkeypatch):
    return partial(fake_gpu.put_gpu, monkeypatch)


@pytest.fixture
def without_gpu(put_gpu):
    put_gpu(None)


def test_it_names_every_part_and_what_is_missing(capsys):
    assert main(["doctor"]) == ExitCode.OK
    text = capsys.readouterr().out
    titles = [line for line in text.splitlines() if not line.startswith(" ")]
    assert titles == ["edgert", "machine", "board", "device", "libraries", "OpenCV", "engines", "programs"]
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
    assert "\n  gauges: " in text


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


def test_device_is_told_with_its_memory_and_the_reason(put_gpu):
    gpu = put_gpu(FakeGpu(attributes_of("orin")))
    name, memory, *plan = doctor._device()
    assert name == "Fake GPU, compute capability 8.7"
    assert memory.startswith("memory ")
    assert plan == [
        "slots: mapped, in place",
        "outputs: mapped, in place",
        "because INTEGRATED 1, PAGEABLE_MEMORY_ACCESS 0: it reads a slot in place, once",
    ]
    assert gpu.opened == 0


def test_device_that_is_not_there_is_told_with_the_reason(without_gpu):
    [line] = doctor._device()
    assert line.startswith("no GPU: import of edgert.device.cuda halted")
    assert line.endswith("pip install 'edgert[cuda]'")


def test_library_that_breaks_in_its_own_way_is_told_too(monkeypatch):
    module = ModuleType("edgert.device.cuda")
    module.__getattr__ = lambda name: _raise(RuntimeError("built for another Python\nsecond line"))
    monkeypatch.setitem(sys.modules, "edgert.device.cuda", module)
    assert list(doctor._device()) == ["no GPU: built for another Python. pip install 'edgert[cuda]'"]


def test_device_that_cannot_be_opened_is_told_with_the_reason(put_gpu, monkeypatch):
    gpu = put_gpu(FakeGpu(attributes_of("orin")))
    monkeypatch.setattr(gpu, "open", lambda: _raise(DeviceError("GPU 0 cannot be opened: in use")))
    assert list(doctor._device()) == ["no GPU: GPU 0 cannot be opened: in use"]


def test_memory_of_the_host_is_one_row(capsys, without_gpu):
    assert doctor.examine_memory() == ExitCode.OK
    reason, title, *lines = capsys.readouterr().out.splitlines()
    assert reason.startswith("no GPU: ")
    assert title == "host"
    assert [line.split()[0] for line in lines if "GB/s" in line] == ["pageable"]
    [refused] = [line for line in lines if "not timed" in line]
    assert refused.startswith("  not timed: mapped, registered, managed, staged: INTEGRATED is not stated")
    assert lines[-1] == "The choice, pageable, is as fast as any other here."


def test_memory_that_is_faster_than_the_choice_is_told_with_how_to_use_it(capsys, put_gpu):
    slow = dict.fromkeys((MemoryKind.MAPPED, MemoryKind.PINNED, MemoryKind.MANAGED), 0.01)
    gpu = put_gpu(FakeGpu(attributes_of("orin"), slow))
    assert doctor.examine_memory() == ExitCode.OK
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Fake GPU, compute capability 8.7"
    rows = [line.split() for line in lines if "GB/s" in line]
    assert [row[0] for row in rows] == ["mapped", "registered", "managed", "staged"]
    assert [row[0] for row in rows if row[-1] == "chosen"] == ["mapped"]
    assert lines[-1] == (
        "registered is faster here than the choice, mapped. To use it, write in the pipeline file: "
        '[service] memory = "registered"'
    )
    assert gpu.opened == 0
    assert gpu.budget.used_bytes == 0


def test_memory_that_is_faster_but_could_not_serve_says_why(capsys, put_gpu):
    slow = dict.fromkeys((MemoryKind.MAPPED, MemoryKind.PINNED, MemoryKind.REGISTERED), 0.01)
    put_gpu(FakeGpu(attributes_of("orin"), slow))
    doctor.examine_memory()
    verdict = capsys.readouterr().out.splitlines()[-1]
    assert verdict.startswith(
        "managed is faster here than mapped, but cannot serve: CONCURRENT_MANAGED_ACCESS"
    )


def test_device_that_fails_under_test_is_an_error(put_gpu):
    gpu = put_gpu(FakeGpu(attributes_of("orin"), failures={MemoryKind.DEVICE: DeviceLostError("gone")}))
    with pytest.raises(DeviceLostError):
        doctor.examine_memory()
    assert gpu.opened == 0


def _raise(error):
    raise error


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

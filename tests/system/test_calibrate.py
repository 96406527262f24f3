"""`edgert calibrate` as a process: stopped in each stage, two at once, with a full disk, a camera, a tty."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import os
import pty
import signal
import subprocess
import sys
import threading

import pytest

from edgert.cli import main
from edgert.device.board import probe_cuda_driver
from edgert.exit_codes import ExitCode
from edgert.models.manifest import read_manifest, sha256_of
from tests.fakes.process import COMMAND, WAIT_S, edgert
from tests.fakes.recipe import RecipeSite, classifier, product
from tests.flow.test_calibrate_flow import AS_TENSORS, ENGINE, STAGES, steady, versions
from tests.requirements_of import need_gstreamer
from tests.system.test_rtsp import PACKAGES, RtspServer

pytestmark = pytest.mark.system

# Each step writes a line. With the COUNTth about STAGE the process does ACTION.
GATE = """
import os, resource, sys
import edgert.calibrate.progress as progress
from edgert.cli import main
progress.LINE_S = 0.0
class Gate:
    left = {count}
    def isatty(self): return False
    def flush(self): sys.__stderr__.flush()
    def write(self, text):
        sys.__stderr__.write(text)
        sys.__stderr__.flush()
        self.left -= ": {stage}" in text
        if not self.left:
            self.left = -1
            {action}
sys.stderr = Gate()
sys.exit(main())
"""
WAIT = "print('waits', flush=True); os.read(0, 1)"
FILL = "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))"
STEPS = {"sample frames": 4, "observe": 4, "choose thresholds": 3, "measure layers": 2, "compare": 3}


@contextlib.contextmanager
def gated(recipe, stage, action=WAIT):
    """Start a calibration that waits within a stage, or does something else there."""
    code = GATE.format(stage=stage, count=STEPS.get(stage, 1), action=action)
    command = [sys.executable, "-W", "error", "-c", code, "calibrate", str(recipe)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


def stop(recipe, stage, number):
    """Stop a calibration within a stage; return exit code and standard error."""
    with gated(recipe, stage) as process:
        assert process.stdout.readline() == "waits\n", process.stderr.read()
        process.send_signal(number)
        _, said = process.communicate(timeout=WAIT_S)
        return process.returncode, said


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    site = RecipeSite(tmp_path_factory.mktemp("undisturbed"), settings=AS_TENSORS)
    assert main(["calibrate", str(site.recipe(ENGINE, sample=site.clip()))]) == ExitCode.OK
    return steady(site)


@pytest.fixture
def recipe(site):
    return site.recipe(ENGINE, sample=site.clip())


@pytest.fixture
def site(tmp_path):
    return RecipeSite(tmp_path, settings=AS_TENSORS)


def test_killed_in_every_stage_it_comes_to_the_same_result(site, recipe, undisturbed):
    for stage in STAGES:
        code, _ = stop(recipe, stage, signal.SIGKILL)
        assert code == -signal.SIGKILL
        assert versions(site) == []
    done = edgert("calibrate", recipe)
    assert done.returncode == ExitCode.OK, done.stderr
    assert steady(site) == undisturbed
    assert versions(site) == ["1"]
    assert not [name for name in site.made() if name.startswith(".") or "partial" in name]


@pytest.mark.parametrize("stage", ["sample frames", "observe", "compare"])
def test_ctrl_c_leaves_nothing_partial_and_says_how_to_go_on(site, recipe, stage):
    code, said = stop(recipe, stage, signal.SIGINT)
    assert code == 128 + signal.SIGINT
    assert said.splitlines()[-1] == f"edgert: stopped. To go on: edgert calibrate {recipe}"
    assert "Traceback" not in said
    left = site.made() if site.work.exists() else {}
    assert not [name for name in left if name.startswith(".") or "partial" in name]
    assert versions(site) == []


def test_two_at_once_in_one_folder(site, recipe):
    with gated(recipe, "observe") as first:
        assert first.stdout.readline() == "waits\n"
        second = edgert("calibrate", recipe, "--fresh")
        assert second.returncode == ExitCode.OUTSIDE
        assert second.stderr.splitlines()[-1] == (
            f"edgert: {site.work}: another `edgert calibrate` is working there; wait for its end"
        )
        out, said = first.communicate("\n", timeout=WAIT_S)
        assert first.returncode == ExitCode.OK, said
        assert "in the store: tiny-int8 1" in out


@pytest.mark.parametrize(
    "stage", ["sample frames", "observe", "choose thresholds", "measure layers", "compare", "install"]
)
def test_a_full_disk(site, recipe, undisturbed, stage):
    with gated(recipe, stage, FILL) as process:
        _, said = process.communicate(timeout=WAIT_S)
    assert process.returncode == ExitCode.CONFIG, said
    assert said.splitlines()[-1].endswith("cannot be written: File too large")
    assert versions(site) == []
    assert (
        not [name for name in site.made() if name.startswith(".") or "partial" in name]
        if site.work.exists()
        else True
    )
    assert main(["calibrate", str(recipe)]) == ExitCode.OK
    assert steady(site) == undisturbed


def test_a_terminal_has_a_bar_and_the_report_stays(site, recipe):
    ours, theirs = pty.openpty()
    read = []

    def follow():
        with contextlib.suppress(OSError):  # the other end was closed
            while chunk := os.read(ours, 4096):
                read.append(chunk)

    reader = threading.Thread(target=follow)
    reader.start()
    done = subprocess.run(
        [*COMMAND, "calibrate", str(recipe)],
        stdout=subprocess.PIPE,
        stderr=theirs,
        timeout=WAIT_S,
        check=False,
    )
    os.close(theirs)
    reader.join()
    os.close(ours)
    shown = b"".join(read).decode()
    assert done.returncode == ExitCode.OK
    assert "tiny-int8: observe" in shown
    assert shown.endswith("\r\x1b[K")  # the bar is gone
    assert "\n" not in shown
    assert done.stdout.decode().startswith("tiny-int8: INT8 by ")


def test_a_camera_that_dies_halfway(tmp_path, monkeypatch, capsys):
    server = RtspServer(
        need_gstreamer("x264enc", "rtph264pay", packages=PACKAGES, typelibs=("Gst-1.0", "GstRtspServer-1.0"))
    )
    site = RecipeSite(tmp_path)
    path = site.recipe(ENGINE, sample=f'source = "{server.uri}"\npatience_s = 0.5\nmax_frames = 500')
    server.start()

    class StopsCamera:
        def __init__(self):
            self.lines = []

        def isatty(self):
            return False

        def flush(self):
            pass

        def write(self, text):
            self.lines.append(text)
            if len(self.lines) == 14:
                server.stop()

    try:
        monkeypatch.setattr("edgert.calibrate.progress.LINE_S", 0.0)
        monkeypatch.setattr("sys.stderr", StopsCamera())
        assert main(["calibrate", str(path)]) == ExitCode.OK
    finally:
        server.stop()
    said = capsys.readouterr().out
    assert "note: The source broke after " in said
    assert "secret" not in said + (site.work / "report.html").read_text()
    assert versions(site) == ["1"]


needs_rtx = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None, reason="needs TensorRT-RTX: pip install 'edgert[rtx]'"
)
RTX = '[engine]\nruntime = "tensorrt_rtx"\n'


@needs_rtx
@pytest.mark.skipif(probe_cuda_driver().version is not None, reason="there is a GPU, so it is built")
def test_without_the_gpu_that_the_engine_needs_the_store_stays_as_it_was(tmp_path, capsys):
    """TensorRT-RTX 1.4 asks for a device to build INT8 products."""
    site = RecipeSite(tmp_path, product())
    before = sorted(site.store.rglob("*"))
    assert main(["calibrate", str(site.recipe(RTX, sample=site.pictures()))]) == ExitCode.DEVICE
    assert "A CUDA call failed: edgert doctor shows the device" in capsys.readouterr().err
    assert sorted(site.store.rglob("*")) == before


@needs_rtx
@pytest.mark.gpu
def test_an_engine_of_products_is_built_once(tmp_path, capsys):
    site = RecipeSite(tmp_path, product())
    path = site.recipe(RTX, sample=site.pictures())
    assert main(["calibrate", str(path)]) == ExitCode.OK, capsys.readouterr().err
    plan = site.store / "tiny-int8" / "1" / "model.plan"
    assert f"in the store: tiny-int8 1, {plan}" in capsys.readouterr().out
    assert read_manifest(plan).source.sha256 == sha256_of(site.work / "model.int8.onnx")
    (site.work / "delivered.state").unlink()  # as if it had been killed just now
    assert main(["calibrate", str(path)]) == ExitCode.OK
    assert versions(site) == ["1"]


@needs_rtx
def test_an_engine_that_cannot_be_built_leaves_the_store_as_it_was(tmp_path, capsys):
    """TensorRT-RTX 1.4 has no convolutions in INT8."""
    site = RecipeSite(tmp_path, classifier())
    before = sorted(site.store.rglob("*"))
    if importlib.metadata.version("tensorrt_rtx_cu13") > "1.4.9":
        pytest.skip("this TensorRT-RTX may have them")
    assert main(["calibrate", str(site.recipe(RTX, sample=site.pictures()))]) == ExitCode.MODEL
    assert "cannot build it: it has no INT8 kernel for one of the layers" in capsys.readouterr().err
    assert sorted(site.store.rglob("*")) == before
    assert (site.work / "report.json").is_file()

"""What `cross smoke` says and refuses, without the arm64 root."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cross import smoke, smoke_root
from cross.build import bundle_names
from cross.command import main
from cross.errors import CrossError
from cross.smoke import EXAMPLE, Step, doctor, last_line, run_smoke, run_step, write_example_for
from cross.smoke_line import describe, expected
from cross.smoke_root import ForeignRoot, children, interrupt
from cross.target import read_target
from edgert.demo.material import Material, ModelFiles
from edgert.errors import ClosedError

DOCTOR = """\
machine
  Linux 6.1 aarch64, 2 cores
engines
  onnxruntime        {engine}
"""
LINES = [
    "10:00:00.000  street   #1    coco       12.0 ms  person 0.91",
    "10:00:00.100  driver   #1    face       30.0 ms  face 0.88",
    "10:00:00.200  driver   #2    face       30.0 ms  -",
]


class Inside:
    """Stands for a root in which every program prints the same."""

    def __init__(self, said):
        self.said = said

    def run(self, *command):
        return self.said


@pytest.fixture
def material(tmp_path):
    """The demo's material, of empty files."""
    names = ("coco", "face", "classify", "labels", "street.mp4", "driver.mp4", "picture.jpg")
    coco, face, classify, labels, street, driver, picture = (tmp_path / name for name in names)
    for name in names:
        (tmp_path / name).touch()
    models = (ModelFiles(model, labels) for model in (coco, face, classify))
    return Material(*models, street, driver, (picture,), ())


class TestSteps:
    def test_a_step_is_reported_with_its_seconds(self):
        said = []
        run_step(Step("check", lambda: "all right"), said.append)
        assert said[0].split() == ["0.0", "s", "check", "all", "right"]

    def test_a_failure_names_its_step(self):
        def fail():
            raise CrossError("exit code 3")

        with pytest.raises(CrossError, match=r"^edgert check: exit code 3$"):
            run_step(Step("edgert check", fail), [].append)

    def test_doctor_is_believed_only_on_arm64_with_a_host_engine(self):
        assert doctor(Inside(DOCTOR.format(engine="1.20.1 the host engine")), "edgert") == (
            "Linux 6.1 aarch64, 2 cores; onnxruntime 1.20.1"
        )
        with pytest.raises(CrossError, match="no host engine"):
            doctor(Inside(DOCTOR.format(engine="no   the host engine: cannot be loaded")), "edgert")
        with pytest.raises(CrossError, match="no arm64 machine"):
            doctor(Inside(DOCTOR.format(engine="1.20.1").replace("aarch64", "x86_64")), "edgert")

    def test_the_last_line_is_the_last_that_says_something(self):
        assert last_line("first\n second \n\n") == "second"
        assert last_line("\n") == ""

    def test_an_archive_that_is_not_there_says_how_it_is_built(self, tmp_path):
        with pytest.raises(CrossError, match="edgert cross build debian-arm64"):
            run_smoke(tmp_path / "none.tar.xz", None, tmp_path, [].append)

    def test_without_a_name_the_bundle_in_dist_is_tried_whole(self, tmp_path, monkeypatch):
        tried = []
        monkeypatch.setattr(smoke, "run_smoke", lambda *bundle, **_: tried.append(bundle[:2]))
        assert main(["smoke", "--dist", str(tmp_path)]) == 0
        assert main(["smoke", "my.tar.xz"]) == 0
        names = bundle_names(read_target("debian-arm64"))
        assert tried == [(tmp_path / names[0], tmp_path / names[1]), (Path("my.tar.xz"), None)]


class TestLine:
    def test_counts_results_by_model(self):
        assert describe(LINES) == "1 of coco, 2 of face"
        assert describe([]) == "no result"

    def test_every_model_of_the_example_is_expected(self, material):
        assert expected(material) == {"coco", "face", "classify"}

    def test_the_example_names_its_files_as_they_are_seen_inside(self, material, tmp_path):
        folder = tmp_path / "example"
        folder.mkdir()
        write_example_for(folder, material)
        text = (folder / "demo.toml").read_text()
        assert f'"file:{EXAMPLE}/clips/driver.mp4"' in text
        assert str(tmp_path) not in text
        configs = [file.read_text() for file in folder.glob("store/*/config.pbtxt")]
        assert len(configs) == 3
        assert all("max_batch_size: 1\n" in config for config in configs)


class TestRoot:
    def test_without_qemu_its_package_is_named(self, tmp_path, monkeypatch):
        monkeypatch.setattr(smoke_root, "QEMU", "no-such-qemu")
        with pytest.raises(CrossError, match="apt-get install qemu-user-static"), ForeignRoot(tmp_path, {}):
            pass

    def test_a_root_that_was_not_entered_runs_nothing(self, tmp_path):
        with pytest.raises(ClosedError):
            ForeignRoot(tmp_path, {}).run("true")

    def test_a_signal_goes_past_the_program_that_waits(self):
        code = "import subprocess, sys; sys.exit(-subprocess.call(['/bin/sleep', '60']))"
        waiting = subprocess.Popen([sys.executable, "-c", code], text=True)
        try:
            while not children(waiting.pid):
                pass
            while Path(f"/proc/{children(waiting.pid)[0]}/comm").read_text() != "sleep\n":
                pass
            interrupt(waiting, signal.SIGTERM)
            assert waiting.wait(20) == signal.SIGTERM
        finally:
            waiting.kill()
            waiting.wait()
        assert children(waiting.pid) == []

"""`edgert demo` as a process: however it ends, its children and its folder go with it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from edgert.demo.fetch import FetchError
from edgert.demo.material import default_cache, prepare_material
from tests.fakes.process import COMMAND, edgert
from tests.requirements_of import need_program

pytestmark = pytest.mark.system

GONE_S = 15.0  # the service answers what it admitted before it ends


@pytest.fixture(scope="module", autouse=True)
def material():
    need_program("mosquitto", "mosquitto")
    try:
        return prepare_material(default_cache(), print)
    except FetchError as error:
        pytest.skip(f"needs the demo's material: {error}")


@contextmanager
def demo(tmp_path, *arguments):
    """Run the demo until results have come from the sender too, with its scratch folder in `tmp_path`."""
    process = subprocess.Popen(
        [*COMMAND, "demo", "--seconds", "60", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        start_new_session=True,
    )
    try:
        with process.stdout:
            for line in process.stdout:
                if re.search(r" requests +#", line):
                    break
            yield process
    finally:
        process.kill()
        process.wait()


def children(process):
    """Return {pid: command line} of the processes that it has started."""
    pids = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return {int(pid): Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ") for pid in pids}


def still_there(pids):
    return [pid for pid in pids if Path(f"/proc/{pid}").exists() and not is_zombie(pid)]


def is_zombie(pid):
    """Tell whether it has ended, and whoever took it over has not asked for its exit code."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def wait_until_gone(pids, folder):
    deadline = time.monotonic() + GONE_S
    while time.monotonic() < deadline:
        if not still_there(pids) and not list(folder.glob("edgert-demo-*")):
            return
        time.sleep(0.05)
    pytest.fail(f"left after {GONE_S} s: {still_there(pids)}, {list(folder.iterdir())}")


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGKILL, -9)],
    ids=lambda value: getattr(value, "name", ""),
)
def test_nothing_is_left_however_it_is_ended(tmp_path, number, code):
    with demo(tmp_path) as process:
        started = children(process)
        assert len(started) == 4
        for name in ("mosquitto", "edgert.cli run", "edgert.demo.sender"):
            assert any(name in command for command in started.values())
        assert len(list(tmp_path.glob("edgert-demo-*"))) == 1
        process.send_signal(number)
        rest = process.stdout.read() if number != signal.SIGKILL else ""
        assert process.wait(GONE_S) == code
        wait_until_gone(started, tmp_path)
    assert number == signal.SIGKILL or " received in " in rest


def test_a_lost_terminal_does_not_keep_it_from_ending(tmp_path):
    with demo(tmp_path) as process:
        started = children(process)
        process.stdout.close()
        process.send_signal(signal.SIGHUP)
        assert process.wait(GONE_S) == 129
        wait_until_gone(started, tmp_path)


def test_a_kept_example_is_right_and_is_no_part_of_the_cache(tmp_path, material):
    keep = tmp_path / "example"
    command = [*COMMAND, "demo", "--seconds", "0.5", "--keep", str(keep)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert f"Run it: edgert run {keep}/demo.toml" in done.stdout.splitlines()[-1]
    checked = edgert("check", keep / "demo.toml", cwd="/")
    assert (checked.returncode, checked.stderr) == (0, "")
    assert not (keep / "store" / "face" / "1" / "model.onnx").samefile(material.face.model)
    again = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert again.returncode == 2
    assert again.stderr == (
        f"edgert: --keep {keep}: is not empty; name a new folder, nothing is overwritten\n"
    )


def test_a_kept_example_runs_from_anywhere(tmp_path):
    keep = tmp_path / "example"
    edgert("demo", "--seconds", "0.5", "--keep", keep).check_returncode()
    port = "sources.requests.uri=router+bind:tcp://127.0.0.1:*"
    command = [sys.executable, "-m", "edgert.cli", "run", str(keep / "demo.toml"), "--set", port]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd="/") as service:
        try:
            assert b'"schema":"edgert.result/1"' in service.stdout.readline()
        finally:
            service.terminate()
            service.communicate(timeout=30)
    assert service.returncode == 0


def test_snapshots_that_cannot_be_written_are_refused_at_once(tmp_path):
    (tmp_path / "file").touch()
    done = edgert("demo", "--snapshots", tmp_path / "file" / "pictures")
    assert done.returncode == 2
    assert done.stderr == (
        f"edgert: --snapshots {tmp_path}/file/pictures: cannot be written into: Not a directory\n"
    )

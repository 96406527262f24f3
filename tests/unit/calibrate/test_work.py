"""The folder of work: results by what they were made from, whole or not at all, for one at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from edgert.calibrate.recipe import QuantizeOptions
from edgert.calibrate.work import key_of, open_work_folder
from edgert.errors import BusyError, ConfigError

KEY, OTHER = key_of("a"), key_of("b")


@pytest.fixture
def work(tmp_path):
    with open_work_folder(tmp_path / "work") as folder:
        yield folder


def test_a_result_is_there_for_its_key_alone(work):
    work.save("x.state", KEY, {"a": 1.5})
    assert work.load("x.state", KEY, dict[str, float]) == {"a": 1.5}
    assert work.load("x.state", OTHER, dict[str, float]) is None
    assert work.load("y.state", KEY, dict[str, float]) is None
    work.save("x.state", OTHER, {})
    assert work.load("x.state", KEY, dict[str, float]) is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda c: c[:-1],
        lambda c: c[:40],
        lambda c: b"",
        lambda c: c[:32] + b"\xc1",
        lambda c: os.urandom(len(c)),
    ],
)
def test_a_damaged_result_is_none(work, damage):
    work.save("x.state", KEY, {"a": 1.5, "b": 2.5})
    file = work.path / "x.state"
    file.write_bytes(damage(file.read_bytes()))
    assert work.load("x.state", KEY, dict[str, float]) is None


def test_a_result_of_another_form_is_none(work):
    work.save("x.state", KEY, ["of", "another", "version"])
    assert work.load("x.state", KEY, dict[str, float]) is None


def test_keys_tell_values_apart():
    values = [
        ("a", "b"),
        ("ab",),
        (["a", "b"],),
        (b"a", "b"),
        (1,),
        (1.0,),
        (None,),
        (QuantizeOptions(),),
        (QuantizeOptions(method="mse"),),
    ]
    assert len({key_of(*each) for each in values}) == len(values)
    assert key_of({"a": 1, "b": 2}) == key_of({"b": 2, "a": 1})


def test_what_is_there_already_is_not_written_again(work):
    file = work.write("model", b"content")
    before = file.stat().st_ino, file.stat().st_mtime_ns
    assert work.write("model", b"content") == file
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == before
    work.write("model", b"other")
    assert file.read_bytes() == b"other"


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path):
    """A child, as a limit of the size of files is the process's."""
    code = (
        "import resource, sys; from pathlib import Path; from edgert.calibrate.work import open_work_folder\n"
        "with open_work_folder(Path(sys.argv[1])) as work:\n"
        "    work.write('model', b'old')\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "    work.write('model', bytes(5000))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=False)
    assert (
        done.stderr.splitlines()[-1]
        == f"edgert.errors.ConfigError: {tmp_path}/model: cannot be written: File too large"
    )
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"model": b"old"}


def test_only_what_is_named_is_removed(work):
    elsewhere = work.path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "mine").touch()
    (work.path / "linked").symlink_to(elsewhere)
    work.write("model", b"x")
    work.remove(("model", "linked", "absent"))
    assert sorted(path.name for path in work.path.iterdir()) == ["elsewhere"]
    assert (elsewhere / "mine").is_file()


def test_leftovers_of_a_process_that_was_killed_are_removed(work):
    for name in (".model.4711", ".model.txt", ".other.4711", "model"):
        (work.path / name).touch()
    work.remove_partial(("model",))
    assert sorted(path.name for path in work.path.iterdir()) == [".model.txt", ".other.4711", "model"]


def test_two_cannot_have_it_at_once(tmp_path):
    with open_work_folder(tmp_path / "work"):
        with (
            pytest.raises(BusyError, match="another `edgert calibrate` is working there"),
            open_work_folder(tmp_path / "work"),
        ):
            pass
        assert (tmp_path / "work").is_dir()
    with open_work_folder(tmp_path / "work") as work:
        work.write("x", b"")
    with open_work_folder(tmp_path / "work") as work:
        assert work.read("x") == b""


def test_a_killed_process_keeps_nobody_out(tmp_path):
    code = (
        "import sys; from pathlib import Path; from edgert.calibrate.work import open_work_folder\n"
        "with open_work_folder(Path(sys.argv[1])): print('in', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, tmp_path / "w"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == b"in\n"
        with pytest.raises(BusyError), open_work_folder(tmp_path / "w"):
            pass
        process.send_signal(signal.SIGKILL)
        process.wait()
    with open_work_folder(tmp_path / "w"):
        pass


def test_an_error_of_the_work_is_no_other_calibration(tmp_path):
    with pytest.raises(BlockingIOError), open_work_folder(tmp_path / "w"):
        raise BlockingIOError


def test_an_empty_folder_is_not_left(tmp_path):
    with pytest.raises(KeyboardInterrupt), open_work_folder(tmp_path / "a" / "b"):
        raise KeyboardInterrupt
    assert not (tmp_path / "a" / "b").exists()


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(ConfigError, match=r"file/w: cannot be made: Not a directory"),
        open_work_folder(tmp_path / "file" / "w"),
    ):
        pass
    with (
        pytest.raises(ConfigError, match=r"file: cannot be made: File exists"),
        open_work_folder(tmp_path / "file"),
    ):
        pass


def test_a_folder_in_a_files_place_cannot_be_read(work):
    (work.path / "x.state").mkdir()
    with pytest.raises(ConfigError, match=r"x.state: cannot be read: Is a directory"):
        work.load("x.state", KEY, int)

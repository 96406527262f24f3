"""Files of a machine are changed together, or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from edgert.errors import ConfigError
from edgert.systemd import change
from edgert.systemd.change import remove_empty_folders, replace_files
from tests.unit.systemd.places import tree


def test_files_and_the_folders_they_need_can_be_read_by_all(tmp_path):
    old = os.umask(0o077)
    try:
        replace_files({tmp_path / "a/b/c.conf": b"1"})
    finally:
        os.umask(old)
    assert tree(tmp_path) == {"a/b/c.conf": b"1"}
    assert [oct((tmp_path / place).stat().st_mode)[-3:] for place in ("a", "a/b", "a/b/c.conf")] == [
        "755",
        "755",
        "644",
    ]


def test_what_is_gone_is_removed_with_the_rest(tmp_path):
    (tmp_path / "old").write_text("x")
    replace_files({tmp_path / "new": b"y"}, [tmp_path / "old"])
    assert tree(tmp_path) == {"new": b"y"}


class FailingDisk:
    """Fails at the nth call of a function that this module uses."""

    def __init__(self, real, fails_at, code):
        self.real, self.left, self.code = real, fails_at, code

    def __call__(self, path, *rest):
        self.left -= 1
        if self.left == 0:
            raise OSError(self.code, os.strerror(self.code), str(path))
        return self.real(path, *rest)


@pytest.mark.parametrize("fails_at", [1, 2, 3])
def test_a_full_disk_leaves_everything_as_it_was(tmp_path, monkeypatch, fails_at):
    (tmp_path / "there").write_text("as it was")
    before = tree(tmp_path)
    monkeypatch.setattr(change, "write_file", FailingDisk(change.write_file, fails_at, errno.ENOSPC))
    wanted = {tmp_path / "new/a": b"1", tmp_path / "there": b"2", tmp_path / "other/b": b"3"}
    with pytest.raises(ConfigError, match=r"No space left on device\. Nothing was changed"):
        replace_files(wanted)
    assert tree(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


@pytest.mark.parametrize("fails_at", [1, 2, 3])
def test_a_refusal_half_way_through_takes_back_what_was_done(tmp_path, monkeypatch, fails_at):
    for name in ("b", "gone"):
        (tmp_path / name).write_text(f"old {name}")
    before = tree(tmp_path)
    failing = FailingDisk(Path.replace, fails_at, errno.EPERM)
    monkeypatch.setattr(Path, "replace", lambda path, target: failing(path, target))
    with pytest.raises(ConfigError, match="Operation not permitted"):
        replace_files({tmp_path / name: b"new" for name in ("a", "b", "c")}, [tmp_path / "gone"])
    assert tree(tmp_path) == before


def test_a_file_that_cannot_be_removed_takes_the_written_ones_back(tmp_path, monkeypatch):
    (tmp_path / "gone").write_text("x")
    before = tree(tmp_path)
    real = Path.unlink

    def unlink(path, missing_ok=False):
        if path.name == "gone":
            raise PermissionError(errno.EPERM, "Operation not permitted", str(path))
        real(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", unlink)
    with pytest.raises(ConfigError, match="gone: cannot be written"):
        replace_files({tmp_path / "new": b"y"}, [tmp_path / "gone"])
    assert tree(tmp_path) == before


def test_folders_are_removed_from_the_inside_unless_something_is_in_them(tmp_path):
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "c").mkdir()
    (tmp_path / "c/kept").touch()
    remove_empty_folders([tmp_path / "a", tmp_path / "a/b", tmp_path / "c", tmp_path / "missing"])
    assert [path.name for path in tmp_path.iterdir()] == ["c"]

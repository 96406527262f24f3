"""Files that are whole, whatever happens while they are written."""

from __future__ import annotations

import errno
import os
import stat

import pytest

from edgert.disk import replace_file, write_file


@pytest.fixture
def synced(monkeypatch):
    """Note what is brought down to the disk, in order: `file` with its size, or `folder`."""
    noted, real = [], os.fsync

    def fsync(handle):
        found = os.fstat(handle)
        noted.append("folder" if stat.S_ISDIR(found.st_mode) else found.st_size)
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    return noted


def test_a_file_is_on_the_disk_before_its_name_is(tmp_path, synced):
    replace_file(tmp_path / "a", b"abc")
    assert synced == [3, "folder"]
    assert (tmp_path / "a").read_bytes() == b"abc"


def test_a_reader_that_has_the_old_file_open_keeps_it(tmp_path):
    replace_file(tmp_path / "a", b"old")
    with (tmp_path / "a").open("rb") as opened:
        replace_file(tmp_path / "a", memoryview(b"new one"))
        assert opened.read() == b"old"
    assert (tmp_path / "a").read_bytes() == b"new one"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    def full(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    replace_file(tmp_path / "a", b"old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        replace_file(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent"):
        replace_file(tmp_path / "absent" / "a", b"new")


def test_a_file_in_the_making_is_written_where_it_is(tmp_path, synced):
    write_file(tmp_path / "a", b"abcd")
    assert synced == [4]
    assert (tmp_path / "a").read_bytes() == b"abcd"

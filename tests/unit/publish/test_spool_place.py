"""Where a spool lies, and what lies beside it."""

from __future__ import annotations

import logging
import multiprocessing
import os
import sqlite3

import pytest

from edgert.errors import ConfigError
from edgert.publish import factory, spool_place
from edgert.publish.options import MqttOptions, SpoolOptions
from edgert.publish.spool_file import SpoolFile
from edgert.publish.spool_place import check_place, left_behind, spool_path

WAIT_S = 10.0


def make_spool(path, rows=1):
    """Write a spool as a process leaves it that has ended well."""
    file = SpoolFile(path, 1_000_000)
    file.open()
    file.append([(number, 1, b"x" * 100) for number in range(1, rows + 1)])
    if not rows:
        file.append([(1, 1, b"x")])
        file.delete([1])
    file.close()
    return path


def keep_open(path, is_open, may_end):
    file = SpoolFile(path, 1_000_000)
    file.open()
    file.append([(1, 1, b"x")])
    is_open.set()
    may_end.wait(WAIT_S)
    os._exit(0)  # as if it was killed


def test_a_spool_is_named_after_node_and_sink_unless_the_file_says_where(tmp_path, monkeypatch):
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    assert spool_path(SpoolOptions(), "n", "m", tmp_path.joinpath) == tmp_path / "state/spool/n-m.db"
    assert spool_path(SpoolOptions(path="x.db"), "n", "m", tmp_path.joinpath) == tmp_path / "x.db"


@pytest.mark.parametrize("place", ["new.db", "a/b/new.db", "old.db"])
def test_a_place_that_can_be_used_is_left_as_it_is(tmp_path, place):
    (tmp_path / "old.db").write_bytes(b"kept")
    check_place(tmp_path / place)
    assert [path.name for path in tmp_path.rglob("*")] == ["old.db"]
    assert (tmp_path / "old.db").read_bytes() == b"kept"


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("folder", "/folder is a folder; expected a file"),
        ("file/new.db", "/file/new.db: .*/file is a file; expected a folder"),
    ],
)
def test_a_place_that_cannot_be_used_is_said(tmp_path, place, said):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=f"^spool.path .*{said}$"):
        check_place(tmp_path / place)


@pytest.mark.parametrize(
    ("place", "denied", "said"),
    [
        ("a/new.db", ".", "a/new.db: this user may not write {}"),
        ("old.db", "old.db", "old.db: this user may not read and write it"),
    ],
)
def test_a_place_that_this_user_may_not_write_is_said(tmp_path, monkeypatch, place, denied, said):
    (tmp_path / "old.db").write_text("")
    monkeypatch.setattr(
        os, "access", lambda path, mode: path.exists() and (path != tmp_path / denied or mode == os.F_OK)
    )  # root may all
    with pytest.raises(ConfigError, match=said.format(tmp_path)):
        check_place(tmp_path / place)


def test_the_spools_of_other_nodes_are_found_if_they_have_results(tmp_path):
    own = make_spool(tmp_path / "porch-m.db")
    make_spool(tmp_path / "porch-second.db")
    make_spool(tmp_path / "empty-m.db", rows=0)
    (tmp_path / "other.db").write_bytes(b"no database" * 1000)
    sqlite3.connect(tmp_path / "foreign.db").close()
    old = make_spool(tmp_path / "gate-m.db", rows=3)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert list(left_behind(own, "porch")) == [(old, old.stat().st_size)]
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


def test_where_no_folder_is_nothing_is_left_behind(tmp_path):
    assert list(left_behind(tmp_path / "no/porch-m.db", "porch")) == []


def test_a_spool_in_use_is_nobodys_but_after_its_process_was_killed_it_is_left_behind(tmp_path):
    context = multiprocessing.get_context("spawn")
    is_open, may_end = context.Event(), context.Event()
    process = context.Process(target=keep_open, args=(tmp_path / "gate-m.db", is_open, may_end))
    process.start()
    try:
        assert is_open.wait(WAIT_S)
        assert list(left_behind(tmp_path / "porch-m.db", "porch")) == []
    finally:
        may_end.set()
        process.join(WAIT_S)
        process.close()
    [(path, size_bytes)] = left_behind(tmp_path / "porch-m.db", "porch")
    assert path == tmp_path / "gate-m.db"
    assert size_bytes > path.stat().st_size  # what was not in the file yet


@pytest.mark.parametrize(("own", "warnings"), [(SpoolOptions(), 1), (SpoolOptions(path="mine.db"), 0)])
def test_it_is_said_at_the_start_what_a_renamed_node_left(tmp_path, monkeypatch, caplog, own, warnings):
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    (tmp_path / "spool").mkdir()
    make_spool(tmp_path / "spool/gate-m.db")
    with caplog.at_level(logging.WARNING, factory.__name__):
        sink = factory.open_sink("m", MqttOptions(port=1, qos=1, spool=own), "porch", "b", tmp_path.joinpath)
        sink.close(5.0)
    said = [record.getMessage() for record in caplog.records if record.name == factory.__name__]
    assert len(said) == warnings
    for text in said:
        assert text.startswith(
            f"Sink m: {tmp_path}/spool/gate-m.db (8 kB) has results of a node with another"
        )
        assert f"to {tmp_path}/spool/porch-m.db; or delete it" in text


def test_without_a_list_of_locks_nobody_is_taken_to_use_it(tmp_path, monkeypatch):
    monkeypatch.setattr(spool_place, "LOCKS", tmp_path / "none")
    old = make_spool(tmp_path / "gate-m.db")
    assert [path for path, _ in left_behind(tmp_path / "porch-m.db", "porch")] == [old]

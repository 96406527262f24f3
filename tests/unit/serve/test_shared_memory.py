"""Shared memory of clients: what may be registered, and that a client who shortens it harms only itself."""

from __future__ import annotations

import gc
import os
import re
from pathlib import Path

import numpy as np
import pytest

from edgert.errors import RequestError, UnknownModelError
from edgert.serve import shared_memory
from edgert.serve.shared_memory import RegionStatus, SharedMemory, TakenError
from edgert.stats import CopyCounts

SIZE = 256


@pytest.fixture
def copies():
    return CopyCounts()


@pytest.fixture
def memory(tmp_path, copies):
    memory = SharedMemory(copies, tmp_path)
    yield memory
    memory.close()


@pytest.fixture(params=["ours alone", "open to all"])
def item(request, tmp_path):
    """An object that is mapped, and one that is read and written as a file."""
    path = tmp_path / "item"
    path.write_bytes(bytes(range(SIZE)))
    path.chmod(0o600 if request.param == "ours alone" else 0o666)
    return path


def test_a_region_is_read_from_its_offset(memory, item):
    memory.register("r", "/item", 16, 64)
    assert bytes(memory.view("r", 8, 4)) == bytes([24, 25, 26, 27])


def test_what_is_read_cannot_be_written(memory, item):
    memory.register("r", "item", 0, SIZE)
    array = np.frombuffer(memory.view("r", 0, 4), np.uint8)
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1


def test_a_tensor_is_written_to_its_place(memory, item):
    memory.register("r", "/item", 16, 64)
    memory.span("r", 8, 8).write(np.arange(3, dtype=np.uint16).data)
    assert item.read_bytes()[22:32] == bytes([22, 23, 0, 0, 1, 0, 2, 0, 30, 31])


def test_only_ours_alone_is_read_in_place(memory, copies, tmp_path):
    for name, mode in (("own", 0o644), ("open", 0o666)):
        path = tmp_path / name
        path.write_bytes(bytes(SIZE))
        path.chmod(mode)
        memory.register(name, name, 0, SIZE)
        view = memory.view(name, 0, 8)
        path.write_bytes(b"\x07" * SIZE)
        assert bytes(view) == (b"\x07" * 8 if name == "own" else bytes(8))
    assert copies.copies.snapshot() == {"shared_to_host": 1}
    assert copies.bytes["shared_to_host"] == 8


def test_an_output_is_one_copy(memory, copies, item):
    memory.register("r", "item", 0, SIZE)
    memory.span("r", 0, 100).write(bytes(60))
    assert copies.copies.snapshot() == {"host_to_shared": 1}
    assert copies.bytes["host_to_shared"] == 60


def test_an_object_that_became_shorter_is_an_error_and_no_signal(memory, item):
    memory.register("r", "item", 0, SIZE)
    span = memory.span("r", 128, 64)
    os.truncate(item, 100)
    with pytest.raises(RequestError, match="has 100 bytes, the region ends at 256"):
        span.read()
    with pytest.raises(RequestError, match="has 100 bytes, the region ends at 256"):
        span.write(b"x")


def test_a_region_may_be_unregistered_while_it_is_used(memory, item):
    memory.register("r", "item", 0, SIZE)
    span = memory.span("r", 0, 8)
    array = np.frombuffer(span.read(), np.uint8)
    memory.unregister("r")
    assert array.tolist() == list(range(8))
    span.write(b"late")
    assert item.read_bytes()[:4] == b"late"


def open_files(folder):
    links = [str(link.resolve()) for link in Path("/proc/self/fd").iterdir()]
    return [link for link in links if link.startswith(str(folder))]


def test_an_object_is_closed_after_its_last_use(memory, item, tmp_path):
    memory.register("r", "item", 0, SIZE)
    array = np.frombuffer(memory.view("r", 0, 8), np.uint8)
    memory.unregister()
    is_mapped = str(item) in Path("/proc/self/maps").read_text()
    assert is_mapped == (item.stat().st_mode & 0o777 == 0o600)
    del array
    gc.collect()
    assert str(item) not in Path("/proc/self/maps").read_text()
    assert not open_files(tmp_path)


def test_a_refused_object_is_closed(memory, item, tmp_path):
    with pytest.raises(RequestError, match="invalid args"):
        memory.register("r", "item", 0, SIZE + 1)
    gc.collect()
    assert not open_files(tmp_path)
    assert memory.status() == []


def test_status(memory, item):
    memory.register("b", "/item", 0, 8)
    memory.register("a", "item", 8, 8)
    assert memory.status() == [RegionStatus("b", "/item", 0, 8), RegionStatus("a", "item", 8, 8)]
    assert memory.status("a") == [RegionStatus("a", "item", 8, 8)]
    with pytest.raises(UnknownModelError, match="Unable to find system shared memory region: 'c'"):
        memory.status("c")


def test_a_name_is_given_once(memory, item):
    memory.register("r", "item", 0, 8)
    with pytest.raises(TakenError, match="shared memory region 'r' already in manager"):
        memory.register("r", "item", 0, 8)
    memory.unregister("r")
    memory.unregister("r")
    memory.register("r", "item", 0, 8)


def test_there_are_so_many_regions_at_most(memory, item, monkeypatch):
    monkeypatch.setattr(shared_memory, "MAX_REGIONS", 2)
    memory.register("a", "item", 0, 8)
    memory.register("b", "item", 0, 8)
    with pytest.raises(RequestError, match="there are 2"):
        memory.register("c", "item", 0, 8)


@pytest.mark.parametrize(("offset", "size"), [(0, 65), (60, 5), (-1, 4), (0, 0), (64, 1), (2**62, 2**62)])
def test_what_is_beyond_a_region_is_refused(memory, item, offset, size):
    memory.register("r", "item", 0, 64)
    with pytest.raises(RequestError, match="Invalid offset"):
        memory.span("r", offset, size)


def test_an_unknown_region(memory):
    with pytest.raises(UnknownModelError, match="Unable to find shared memory region: 'r'"):
        memory.span("r", 0, 1)


@pytest.mark.parametrize(
    "key", ["", "/", "..", "/..", "../item", "/a/b", "a/../item", ".hidden", "a\0b", "a" * 300, "//item"]
)
def test_only_names_of_objects_are_opened(memory, item, key):
    with pytest.raises(RequestError, match=re.escape("no object's name")):
        memory.register("r", key, 0, 8)


@pytest.mark.parametrize("size", [0, -1])
def test_a_region_has_a_size(memory, item, size):
    with pytest.raises(RequestError, match="byte_size"):
        memory.register("r", "item", 0, size)


def test_what_is_no_regular_file_is_refused(memory, tmp_path):
    target = tmp_path.parent / f"{tmp_path.name}-target"
    target.write_bytes(bytes(SIZE))
    (tmp_path / "link").symlink_to(target)
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    for key in ("link", "folder", "fifo", "nothing"):
        with pytest.raises(RequestError, match=f"Unable to open shared memory region: '{key}'"):
            memory.register("r", key, 0, 8)


@pytest.mark.parametrize(
    ("mode", "groups", "is_taken"),
    [
        (0o600, [], False),
        (0o660, [], False),
        (0o660, [54321], True),
        (0o666, [], True),
        (0o644, [54321], False),
    ],
)
def test_another_users_object_must_be_open_to_us(memory, tmp_path, monkeypatch, mode, groups, is_taken):
    path = tmp_path / "item"
    path.write_bytes(bytes(SIZE))
    path.chmod(mode)
    found = list(path.stat())
    found[4:6] = 54321, 54321
    monkeypatch.setattr(shared_memory.os, "fstat", lambda _: os.stat_result(found))
    monkeypatch.setattr(shared_memory.os, "getgroups", lambda: groups)
    if is_taken:
        memory.register("r", "item", 0, 8)
        assert bytes(memory.view("r", 0, 8)) == bytes(8)
    else:
        with pytest.raises(RequestError, match="nor open to its group"):
            memory.register("r", "item", 0, 8)

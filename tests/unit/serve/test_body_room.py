"""Bodies of known length: room as it comes, counted by how much has."""

from __future__ import annotations

import random

import numpy as np
import pytest

from edgert.serve.bodies import Bodies, FullError
from edgert.serve.body_room import ALIGNMENT, BodyRoom
from edgert.serve.options import LimitOptions

MB = 1 << 20


@pytest.fixture
def bodies():
    bodies = Bodies(LimitOptions(bodies_mb=8))
    yield bodies
    assert bodies.held_bytes == 0


@pytest.mark.parametrize("size", [0, 1, 65_536, 65_537, MB, MB + 1, 3 * MB + 7])
@pytest.mark.parametrize("piece_bytes", [3_500, 16_384, 65_536])
def test_what_comes_in_pieces_is_whole(bodies, size, piece_bytes):
    data = memoryview(random.Random(size).randbytes(size))
    room = BodyRoom(bodies, size, before=13)
    for start in range(0, size, piece_bytes):
        room.add(data[start : start + piece_bytes])
        assert room.filled <= bodies.held_bytes <= max(2 * room.filled, 4096 + room.filled)
    assert room.filled == len(room) == size
    assert room.whole == data
    if size > 13:
        address = np.frombuffer(room.whole[13:], np.uint8).__array_interface__["data"][0]
        assert address % ALIGNMENT == 0


def test_what_is_announced_is_not_counted(bodies):
    rooms = [BodyRoom(bodies, 64 * MB) for _ in range(100)]
    assert bodies.held_bytes == 0
    rooms[0].widen(1000)
    assert bodies.held_bytes == len(rooms[0].open) == 1000
    rooms.clear()


def test_where_there_is_no_more_room_what_has_come_stays_counted(bodies):
    room = BodyRoom(bodies, 20 * MB)
    for _ in range(64):
        room.add(memoryview(bytes(65_536)))
    with pytest.raises(FullError):
        room.widen(16 * MB)
    assert 4 * MB == room.filled <= bodies.held_bytes <= 8 * MB
    del room


def test_a_part_of_it_keeps_all_of_it_counted(bodies):
    room = BodyRoom(bodies, 2 * MB)
    for _ in range(32):
        room.add(memoryview(bytes(65_536)))
    part = room.whole[5:6]
    del room
    assert bodies.held_bytes == 2 * MB
    assert part == b"\0"
    part.release()


def test_a_machine_without_memory_is_full(bodies, monkeypatch):
    def none_left(*_):
        raise MemoryError

    monkeypatch.setattr(np, "empty", none_left)
    with pytest.raises(FullError, match="bytes of memory left"):
        bodies.room(1000)
    with pytest.raises(FullError, match="bytes of memory left"):
        BodyRoom(bodies, 1000)

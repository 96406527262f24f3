"""Memory of requests: counted before it is had, until nothing refers to it."""

from __future__ import annotations

import gc
import gzip
import random
import zlib

import numpy as np
import pytest

from edgert.errors import ConfigError, RequestError
from edgert.serve.bodies import Blocks, Bodies, FullError, GrowingBody, TooLargeError
from edgert.serve.datatypes import pack_texts, unpack_texts
from edgert.serve.inflate import inflate_into
from edgert.serve.options import LimitOptions, ServeOptions

MB = 1 << 20
PACKED = gzip.compress(b"{}", mtime=0)


class Owner:
    """Something that lives for a while."""


@pytest.fixture
def bodies():
    bodies = Bodies(LimitOptions(bodies_mb=1, json_mb=1))
    yield bodies
    assert bodies.held_bytes == 0


def test_room_is_counted_as_long_as_a_part_of_it_is_seen(bodies):
    room = bodies.room(1000)
    array = np.frombuffer(room[100:200], np.uint8)
    del room
    assert (array.nbytes, bodies.held_bytes) == (100, 1000)
    del array


def test_what_is_too_much_is_refused_and_not_counted(bodies):
    room = bodies.room(MB - 100)
    with pytest.raises(FullError, match="hold 1048476 of 1048576 bytes; this one needs 101"):
        bodies.room(101)
    assert len(bodies.room(100)) == 100
    del room


def test_json_counts_tenfold_until_its_request_is_forgotten(bodies):
    owner = Owner()
    bodies.take_json(100_000, owner)
    assert bodies.held_bytes == 1_000_000
    with pytest.raises(FullError):
        bodies.take_json(5_000, owner)
    with pytest.raises(TooLargeError, match="may have 1048576 bytes; these have 1048577"):
        bodies.take_json(MB + 1, owner)


def test_a_body_is_counted_as_it_grows(bodies):
    body = GrowingBody(bodies, MB)
    body.add(b"12")
    body.add(memoryview(b"345"))
    assert (bytes(body), bodies.held_bytes) == (b"12345", 5)
    room = bodies.room(MB - 10)
    with pytest.raises(FullError):
        body.add(b"123456")
    assert (bytes(body), bodies.held_bytes) == (b"12345", MB - 5)
    del body, room


def test_a_body_has_a_limit_of_its_own(bodies):
    body = GrowingBody(bodies, 4)
    with pytest.raises(TooLargeError):
        body.add(b"12345")


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
@pytest.mark.parametrize("size", [0, 1, 65_536, 131_072, 700_000])
def test_what_was_packed_is_inflated(bodies, encoding, pack, size):
    for data in (bytes(size), random.Random(size).randbytes(size)):
        body = GrowingBody(bodies, MB)
        inflate_into(body, pack(data), encoding)
        assert body == data


def test_inflating_ends_where_there_is_no_more_room(bodies):
    body = GrowingBody(bodies, 64 * MB)
    with pytest.raises(FullError):
        inflate_into(body, zlib.compress(bytes(32 * MB)), "deflate")
    assert len(body) <= MB


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not one whole gzip"),
        (b"x" * 20, "no gzip"),
        (PACKED[:-3], "not one whole gzip"),
        (PACKED + b"x", "not one whole gzip"),
        (PACKED + bytes(200_000), "more follows its end"),
    ],
)
def test_what_is_not_one_whole_stream_is_refused(bodies, data, words):
    with pytest.raises(RequestError, match=words):
        inflate_into(GrowingBody(bodies, MB), data, "gzip")


def test_the_largest_request_has_room():
    ServeOptions().check(lambda name: name, ())
    for limits in (LimitOptions(bodies_mb=223), LimitOptions(bodies_mb=10, request_mb=1)):
        with pytest.raises(ConfigError, match=rf"^limits\.bodies_mb = {limits.bodies_mb}: expected at least"):
            ServeOptions(limits=limits).check(lambda name: name, ())


def test_texts_come_back_as_they_were_packed():
    texts = np.array([b"", b"a", "\u00fc", b"\0" * 300], object)
    assert unpack_texts(pack_texts(texts), 4).tolist() == [b"", b"a", "\u00fc".encode(), b"\0" * 300]


@pytest.mark.parametrize(
    ("data", "count", "words"),
    [
        (b"", 1 << 60, "has at least 4611686018427387904 bytes, 0 came"),
        (b"\1\0\0\0a", 2, "has at least 8 bytes, 5 came"),
        (b"\4\0\0\0abcd", 2, "ends after 1 of 2 elements"),
        (b"\5\0\0\0abcd", 1, "element 0 of a BYTES tensor has 5 bytes, 4 came"),
        (b"\1\0\0\0ab", 1, "1 bytes after its 1 elements"),
    ],
)
def test_texts_that_are_not_what_they_say_are_refused_before_there_is_room_for_them(data, count, words):
    with pytest.raises(RequestError, match=words):
        unpack_texts(data, count)


def address(room):
    return np.frombuffer(room, np.uint8).__array_interface__["data"][0]


class TestBlocks:
    def test_memory_that_nobody_refers_to_is_used_again(self):
        blocks = Blocks()
        room = blocks.room(100_000)
        first = address(room)
        del room
        assert address(blocks.room(99_000)) == first

    def test_memory_is_not_used_again_while_a_view_of_it_lives(self):
        blocks = Blocks()
        room = blocks.room(100_000)
        view = np.frombuffer(room[50:54], np.float32)
        view[:] = 7
        del room
        blocks.room(100_000)[:] = bytes(100_000)
        assert view[0] == 7

    @pytest.mark.parametrize(
        "seen",
        [
            lambda room: np.ndarray((10,), np.float32, room[:40]),
            lambda room: np.ndarray((10,), np.float32, room[:40]).reshape(2, 5)[1:],
            lambda room: np.frombuffer(room.toreadonly(), np.float32),
            lambda room: np.asarray(room)[3:7].view(np.int32),
            lambda room: room[7:9],
        ],
    )
    def test_an_array_keeps_the_memory_that_it_sees(self, seen):
        blocks, left = Blocks(), []
        array = seen(blocks.room(100_000, lambda: left.append(1)))
        gc.collect()
        assert not left
        del array
        assert left == [1]

    def test_whoever_waits_for_the_memory_hears_once_that_it_is_free(self):
        heard = []
        room = Blocks().room(10, lambda: heard.append(1))
        assert len(room) == 10
        assert not heard
        del room
        assert heard == [1]

    def test_so_much_is_kept_at_most(self):
        blocks = Blocks()
        rooms = [blocks.room(size) for size in (1 << 20, 2 << 20, 3 << 20, 5 << 20)]
        rooms.reverse()
        while rooms:
            rooms.pop()
            kept = sum(size * len(own) for size, own in blocks._kept.items())
            assert kept <= 4 << 20
        assert set(blocks._kept) == {3 << 20}

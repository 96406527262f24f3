from __future__ import annotations

import cv2
import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgert.capture.message import (
    MAX_HEADER_BYTES,
    MAX_SENDERS,
    Header,
    PayloadReader,
    SequenceGaps,
    envelope_length,
    parse_header,
)
from edgert.device.host import HostDriver
from edgert.errors import FrameError
from edgert.frames.slots import SlotRing
from edgert.stats import CopyCounts

BOUND = 100_000
PICTURE = np.random.default_rng(3).integers(0, 256, (8, 10, 3), np.uint8)


@pytest.fixture
def copies():
    return CopyCounts()


@pytest.fixture
def payloads(copies):
    reader = PayloadReader(BOUND, copies)
    yield reader
    reader.close()


def header(form="bgr8", height=8, width=10, **more):
    return Header(1, form, height, width, **more)


def jpeg(picture=PICTURE, suffix=".jpg"):
    return memoryview(cv2.imencode(suffix, picture)[1].tobytes())


@pytest.mark.parametrize("encode", [msgspec.json.encode, msgspec.msgpack.encode])
def test_header_is_json_or_msgpack(encode):
    said = {"v": 1, "format": "jpeg", "source": "porch", "seq": 7, "captured_utc_ns": 8, "id": "a", "x": [1]}
    expected = Header(1, "jpeg", 0, 0, "porch", 7, 8, None, "a")
    assert parse_header(memoryview(encode(said))) == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"v": 2}, "invalid enum value 2"),
        ({"v": None}, "$.v"),
        ({"format": "yuv9"}, "invalid enum value 'yuv9'"),
        ({"height": -1}, "Expected `int` >= 0"),
        ({"height": 65536}, "Expected `int` <= 65535"),
        ({"width": 2**70}, "Expected `int` <= 65535"),
        ({"width": 6.5}, "Expected `int`, got `float`"),
        ({"seq": -1}, "$.seq"),
        ({"captured_utc_ns": 2**63}, "$.captured_utc_ns"),
        ({"source": "x" * 257}, "length <= 256"),
        ({"model": 5}, "$.model"),
        ({"id": []}, "$.id"),
    ],
)
def test_wrong_header_is_refused_by_field(change, message):
    said = {"v": 1, "format": "bgr8", "height": 8, "width": 10} | change
    with pytest.raises(FrameError) as refusal:
        parse_header(memoryview(msgspec.json.encode(said)))
    assert message.lower() in str(refusal.value).lower()


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"\xff\xfe", b"{}", b'{"v":1}', b"\x81", b'{"v":1,"format":"\xff"}', b"hello"]
)
def test_what_is_no_header_is_refused(data):
    with pytest.raises(FrameError, match=rf"The header of {len(data)} bytes is refused"):
        parse_header(memoryview(data))


@pytest.mark.parametrize("data", [b'{"x":' + b"[" * 9000, b"\x81\xa1x" + b"\x91" * 9000])
def test_deep_nesting_is_refused(data):
    with pytest.raises(FrameError):
        parse_header(memoryview(data))


def test_long_header_is_refused_unread():
    with pytest.raises(FrameError, match=f"is over the bound of {MAX_HEADER_BYTES}"):
        parse_header(memoryview(bytes(MAX_HEADER_BYTES + 1)))


@pytest.mark.parametrize(
    ("socket", "parts", "length"),
    [
        ("pull", [b"h", b"p"], 0),
        ("dealer", [b"", b"h", b"p"], 1),
        ("rep", [b"h", b"p"], 0),
        ("router", [b"id", b"h", b"p"], 1),
        ("router", [b"id", b"", b"h", b"p"], 2),
        ("router", [b"id"], 1),
        ("sub", [b"h", b"p"], 0),
        ("sub", [b"topic", b"h", b"p"], 1),
    ],
)
def test_envelope_is_what_precedes_the_header(socket, parts, length):
    assert envelope_length(socket, [memoryview(part) for part in parts]) == length


def test_skipped_numbers_are_missed_and_a_number_that_falls_back_is_a_new_start():
    gaps = SequenceGaps()
    assert [gaps.missed("a", seq) for seq in (5, 6, 9, 0, 2)] == [0, 0, 2, 0, 1]
    assert gaps.missed("b", 100) == 0


def test_number_of_senders_that_are_watched_is_bounded():
    gaps = SequenceGaps()
    for number in range(3 * MAX_SENDERS):
        assert gaps.missed(str(number), 5) == 0
    assert len(gaps._next) == MAX_SENDERS


@pytest.mark.parametrize(
    ("form", "shape"), [("bgr8", (8, 10, 3)), ("rgb8", (8, 10, 3)), ("gray8", (8, 10)), ("nv12", (12, 10))]
)
def test_raw_pixels_cost_one_counted_copy(payloads, copies, slot, form, shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    assert payloads.read_into(header(form), memoryview(pixels.tobytes()), slot) == (form, 8, 10)
    assert np.array_equal(slot.view(shape), pixels)
    assert copies.copies.snapshot() == {"host_to_host": 1}


@pytest.mark.parametrize("size", [(0, 10), (8, 0), (0, 0)])
@pytest.mark.parametrize("form", ["bgr8", "rgb8", "gray8", "nv12", "shm"])
def test_raw_picture_without_height_or_width_is_refused(payloads, slot, form, size):
    place = msgspec.msgpack.encode({"name": "cam", "offset": 0, "bytes": 240})
    for payload in (b"", bytes(240)):
        with pytest.raises(FrameError, match=f"Frame size {size[1]}x{size[0]} is not positive"):
            payloads.read_into(header(form, *size), memoryview(place if form == "shm" else payload), slot)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("size", [(0, 0), (8, 10)])
def test_pictures_become_bgr(payloads, slot, suffix, size):
    form = {".jpg": "jpeg", ".png": "png"}[suffix]
    assert payloads.read_into(header(form, *size), jpeg(suffix=suffix), slot) == ("bgr8", 8, 10)
    assert slot.view((8, 10, 3)).std() > 10


@pytest.mark.parametrize(
    ("said", "payload", "message"),
    [
        (header(), bytes(239), "A bgr8 frame of 10x8 has 240 bytes; the payload has 239."),
        (header(), b"", "has 240 bytes; the payload has 0."),
        (header("bgr8", 0, 10), bytes(240), "Frame size 10x0 is not positive."),
        (header("bgr8", 65535, 65535), b"x", "has 12884508675 bytes, over the source's bound of 100000"),
        (header("nv12", 7, 10), bytes(105), "needs even sides"),
        (header("jpeg"), b"", "which is no JPEG"),
        (header("jpeg"), jpeg(suffix=".png"), "which is no JPEG"),
        (header("png"), jpeg(), "which is no PNG"),
        (header("jpeg", 8, 11), jpeg(), "The header says 11x8, the jpeg itself 10x8."),
        (header("jpeg", 0, 0), jpeg()[:200], "is cut off"),
        (header("shm"), b"\x80", "The shm payload of 1 bytes is refused"),
        (header("shm"), bytes(5000), "A shm payload of 5000 bytes is over the bound"),
    ],
)
def test_wrong_payload_is_refused(payloads, slot, said, payload, message, capfd):
    with pytest.raises(FrameError) as refusal:
        payloads.read_into(said, memoryview(payload), slot)
    assert message in str(refusal.value)


def test_picture_over_the_bound_is_refused_before_it_is_decoded(payloads, slot, monkeypatch):
    monkeypatch.setattr(cv2, "imdecode", None)
    bomb = jpeg(np.zeros((200, 200, 3), np.uint8))
    with pytest.raises(FrameError, match="A bgr8 frame of 200x200 has 120000 bytes, over the source's bound"):
        payloads.read_into(header("jpeg", 0, 0), bomb, slot)


def test_discarded_frame_is_checked_but_not_copied(payloads, copies, monkeypatch):
    monkeypatch.setattr(cv2, "imdecode", None)
    assert payloads.read_into(header(), memoryview(bytes(240)), None) == ("bgr8", 8, 10)
    assert payloads.read_into(header("jpeg"), jpeg(), None) == ("bgr8", 8, 10)
    assert copies.copies.total() == 0
    with pytest.raises(FrameError):
        payloads.read_into(header(), memoryview(bytes(239)), None)


@pytest.fixture
def shared(payloads, tmp_path):
    payloads._shm._folder = tmp_path
    (tmp_path / "cam").write_bytes(bytes(16) + PICTURE.tobytes())
    return tmp_path


def test_shared_memory_costs_one_counted_copy(payloads, copies, slot, shared):
    place = msgspec.msgpack.encode({"name": "/cam", "offset": 16, "bytes": 240})
    assert payloads.read_into(header("shm"), memoryview(place), slot) == ("bgr8", 8, 10)
    assert np.array_equal(slot.view((8, 10, 3)), PICTURE)
    assert copies.copies.snapshot() == {"host_to_host": 1}


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ({"name": "cam", "offset": 0, "bytes": 239}, "has 240 bytes; the place has 239"),
        ({"name": "cam", "offset": 17, "bytes": 240}, "ends at byte 256; the frame needs 257"),
        ({"name": "../cam", "offset": 0, "bytes": 240}, "expected letters, digits"),
        ({"name": "cam", "offset": -1, "bytes": 240}, "$.offset"),
        ({"name": "cam", "offset": 0, "bytes": 240, "format": "jpeg"}, "$.format"),
    ],
)
def test_wrong_place_is_refused(payloads, slot, shared, place, message):
    with pytest.raises(FrameError) as refusal:
        payloads.read_into(header("shm"), memoryview(msgspec.json.encode(place)), slot)
    assert message in str(refusal.value)


keys = st.sampled_from(
    ["v", "format", "height", "width", "source", "seq", "captured_utc_ns", "model", "id", "x"]
)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.sampled_from([1, 8, 10, "bgr8", "jpeg", "png", "shm", "nv12", "gray8"])
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=4,
)
maps = st.dictionaries(keys, values, max_size=10).map(lambda said: {"v": 1, "format": "bgr8"} | said)
headers = st.one_of(
    st.binary(max_size=60),
    maps.map(msgspec.json.encode),
    maps.map(msgspec.msgpack.encode),
    st.binary(max_size=40).map(lambda tail: b"{" + tail),
)
bodies = st.one_of(
    st.binary(max_size=300),
    st.binary(max_size=60).map(lambda tail: b"\xff\xd8\xff" + tail),
    st.binary(max_size=60).map(lambda tail: b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + tail),
    st.just(jpeg().tobytes()),
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(headers, bodies)
def test_any_two_parts_are_a_frame_within_its_bound_or_refused(head, body):
    allocated = []
    host = HostDriver()
    ring = SlotRing(1, BOUND, lambda size: allocated.append(size) or host.allocate(size))
    slot, payloads = ring.acquire_write(), PayloadReader(BOUND, CopyCounts())
    try:
        form, height, width = payloads.read_into(parse_header(memoryview(head)), memoryview(body), slot)
        assert form in ("bgr8", "rgb8", "gray8", "nv12")
        assert 0 < height * width <= BOUND
    except FrameError:
        pass
    finally:
        payloads.close()
        ring.abandon(slot)
        ring.close()
    assert all(size <= BOUND for size in allocated)

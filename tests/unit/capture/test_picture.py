from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from edgert.capture.picture import MAX_SEGMENTS, decode_picture, picture_size
from edgert.errors import FrameError

NOISE = np.random.default_rng(1).integers(0, 256, (37, 53, 3), np.uint8)


def encode(suffix, picture=NOISE, *settings):
    return cv2.imencode(suffix, picture, list(settings))[1].tobytes()


def read(form, data):
    return picture_size(form, data), decode_picture(form, data)


def make_png_header(width, height):
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))


@pytest.mark.parametrize(
    ("form", "data"),
    [
        ("jpeg", encode(".jpg")),
        ("jpeg", encode(".jpg", NOISE, cv2.IMWRITE_JPEG_PROGRESSIVE, 1)),
        ("jpeg", encode(".jpg", NOISE[:, :, 0])),
        ("jpeg", encode(".jpg", NOISE, cv2.IMWRITE_JPEG_RST_INTERVAL, 1)),
        ("png", encode(".png")),
        ("png", encode(".png", NOISE[:, :, 0])),
        ("png", encode(".png", np.dstack([NOISE, NOISE[:, :, :1]]))),
        ("png", encode(".png", NOISE.astype(np.uint16) * 257)),
    ],
)
def test_size_in_the_header_is_the_size_decoded(form, data):
    assert picture_size(form, memoryview(data)) == (37, 53)
    picture = decode_picture(form, memoryview(data))
    assert (picture.shape, picture.dtype) == ((37, 53, 3), np.uint8)


def test_png_comes_back_as_it_was():
    assert np.array_equal(decode_picture("png", encode(".png")), NOISE)


def test_size_is_found_behind_other_segments_and_padding():
    data = encode(".jpg")
    segment = b"\xff\xe5\x00\x06some"
    assert picture_size("jpeg", data[:2] + segment * 3 + b"\xff" * 5 + data[2:]) == (37, 53)


def test_thumbnail_in_an_exif_segment_is_not_taken_for_the_picture():
    data, thumbnail = encode(".jpg"), encode(".jpg", NOISE[:8, :8])
    segment = b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    assert picture_size("jpeg", data[:2] + segment + data[2:]) == (37, 53)


def test_exif_rotation_is_not_applied():
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    data = encode(".jpg")
    data = data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:]
    assert decode_picture("jpeg", data).shape == (37, 53, 3)


@pytest.mark.parametrize(
    ("form", "data", "message"),
    [
        ("jpeg", b"", "begins with b'', which is no JPEG"),
        ("jpeg", encode(".png"), "which is no JPEG"),
        ("png", encode(".jpg"), "which is no PNG"),
        ("jpeg", b"\xff\xd8\xff", "cut off: 3 bytes end inside its header"),
        ("jpeg", b"\xff\xd8\xff\xc0\x00\x11\x08", "cut off"),
        ("jpeg", b"\xff\xd8\x00\x00", "no marker at byte 2"),
        ("jpeg", b"\xff\xd8\xff\xda\x00\x02", "pixels before their size"),
        ("jpeg", b"\xff\xd8\xff\xd9", "pixels before their size"),
        ("jpeg", encode(".jpg")[:-2], "bytes without an end marker"),
        ("jpeg", b"\xff\xd8" + b"\xff" * 100_000, f"no size in its first {MAX_SEGMENTS} segments"),
        ("jpeg", b"\xff\xd8" + b"\xff\x01" * 100_000, "no size in its first"),
        ("jpeg", b"\xff\xd8\xff\xc0\x00\x11\x08\x00\x00\x00\x10\x03\xff\xd9", "16x0 pixels"),
        ("png", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0", "cut off"),
        ("png", make_png_header(0, 5), "0x5 pixels"),
    ],
)
def test_header_that_is_wrong_is_refused(form, data, message):
    with pytest.raises(FrameError) as refusal:
        picture_size(form, data)
    assert message in str(refusal.value)


@pytest.mark.parametrize("form", [".jpg", ".png"])
@pytest.mark.parametrize("keep", [0.1, 0.5, 0.95])
def test_picture_cut_off_behind_its_header_is_refused(form, keep, capfd):
    data = encode(form, np.tile(NOISE, (4, 4, 1)))
    with pytest.raises(FrameError, match=r"is corrupt|is cut off"):
        read(form[1:].replace("jpg", "jpeg"), data[: int(len(data) * keep)])
    capfd.readouterr()  # the decoders' own words


@settings(max_examples=300)
@given(st.sampled_from(["jpeg", "png"]), st.binary(max_size=200), st.booleans())
def test_any_bytes_have_a_size_or_are_refused(form, data, has_magic):
    magic = {"jpeg": b"\xff\xd8\xff", "png": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"}[form]
    try:
        height, width = picture_size(form, memoryview(magic + data if has_magic else data))
    except FrameError:
        return
    assert 0 < height < 2**32
    assert 0 < width < 2**32


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(["jpeg", "png"]), st.integers(0, 3000), st.integers(0, 255))
def test_damaged_picture_has_the_size_it_says_or_is_refused(form, at, value):
    data = bytearray(encode(f".{form}"))
    data[at % len(data)] = value
    try:
        height, width = picture_size(form, bytes(data))
        assume(height * width < 100_000)
        picture = decode_picture(form, bytes(data))
    except FrameError:
        return
    assert picture.shape == (height, width, 3)

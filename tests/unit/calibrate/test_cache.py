"""Calibration caches: the file, and what it says of a graph."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgert.calibrate.cache import cache_from_thresholds, thresholds_from_cache
from edgert.errors import ConfigError
from edgert.models.calibration_cache import (
    MAX_CACHE_BYTES,
    CalibrationCache,
    parse_calibration_cache,
    read_calibration_cache,
    release_of,
    version_number,
    write_calibration_cache,
)

FILE = Path("old.cache")
HEAD = b"TRT-100300-EntropyCalibration2\n"
# As TensorRT 8.4 wrote it: no leading zeros, names of its own.
REAL = b"""TRT-8401-EntropyCalibration2
input: 3c010a14
(Unnamed Layer* 64) [Shuffle]_output: 0
366: 0
input_1:0: 3caa54fc
(Unnamed Layer* 0) [Convolution]_output: 3cbe52af
"""

names = st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]), min_size=1)
scales = st.floats(0, width=32, allow_nan=False, allow_infinity=False)


def parse(content):
    return parse_calibration_cache(content, FILE)


def cache(**scales):
    return CalibrationCache(100300, "EntropyCalibration2", scales)


@given(
    st.dictionaries(names, scales, min_size=1),
    st.sampled_from(["EntropyCalibration2", "MinMaxCalibration", "EntropyCalibration", "LegacyCalibration"]),
    st.integers(4000, 109999),
)
def test_what_is_written_is_read_again(scales, algorithm, version):
    written = CalibrationCache(version, algorithm, scales)
    assert parse(written.encode()) == written


@given(st.binary(max_size=200), st.sampled_from([b"", HEAD, REAL]))
def test_noise_is_refused_or_read_whole(noise, before):
    with suppress(ConfigError):  # nothing else
        read = parse(before + noise)
        assert parse(read.encode()) == read


def test_a_file_of_tensorrt_is_understood():
    read = parse(REAL)
    assert (read.version, read.release, read.algorithm) == (8401, "8.4.1", "EntropyCalibration2")
    assert list(read.scales) == [
        "input",
        "(Unnamed Layer* 64) [Shuffle]_output",
        "366",
        "input_1:0",
        "(Unnamed Layer* 0) [Convolution]_output",
    ]
    assert read.amax("input") == pytest.approx(1 + 0.5 / 2048, rel=1e-6)  # the middle of a bin
    assert read.amax("input_1:0") == pytest.approx(127 * np.frombuffer(b"\x3c\xaa\x54\xfc", ">f4")[0])
    assert read.amax("366") is None
    assert read.amax("no such tensor") is None
    assert read.encode() == REAL


def test_line_ends_of_another_system_and_a_missing_last_one_are_no_damage():
    assert parse(REAL.replace(b"\n", b"\r\n")) == parse(REAL) == parse(REAL.rstrip()) == parse(REAL + b"\n\n")


def test_a_negative_zero_is_no_range():
    assert str(parse(HEAD + b"x: 80000000\n").scales["x"]) == "0.0"


@pytest.mark.parametrize(
    ("version", "release"),
    [(7103, (7, 1, 3)), (8501, (8, 5, 1)), (8616, (8, 6, 16)), (100300, (10, 3, 0)), (101601, (10, 16, 1))],
)
def test_a_version_is_one_number(version, release):
    assert release_of(version) == release
    assert version_number(release) == version_number((*release, 30)) == version


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"old.cache:1: not a calibration cache: it begins with '', expected TRT-<version>- and one of"),
        (b"{}", r"old.cache:1: not a calibration cache: it begins with '\{\}', expected TRT-"),
        (b"\x00\xff\x7fELF" * 100, r"old.cache:1: not a calibration cache: it begins with '\\x00\\\\xff"),
        (b"TRT-8XXX-EntropyCalibration2\nx: 3c010a14\n", "old.cache:1: not a calibration cache"),
        (b"TRT-8501-Magic\nx: 3c010a14\n", "old.cache:1: .* one of EntropyCalibration2, MinMaxCalibration,"),
        (HEAD, "old.cache: lists no tensor, expected `tensor: scale`"),
        (
            HEAD + b"x: 3c010a14\ny: 3c01",
            "old.cache:3: the file ends within 'y: 3c01', expected `tensor: scale`",
        ),
        (HEAD + b"x: 3c010a14\ny", "old.cache:3: the file ends within 'y', expected"),
        (HEAD + b"x: 3c01\ny: 3c010a14\n", "old.cache:2: 'x: 3c01': expected .* 8 hexadecimal digits or 0"),
        (HEAD + b"x: 3c010a1g\n", "old.cache:2: 'x: 3c010a1g': expected"),
        (HEAD + b"x: 0x3c010a\n", "old.cache:2: 'x: 0x3c010a': expected"),
        (HEAD + b": 3c010a14\n", "old.cache:2: ': 3c010a14': expected"),
        (HEAD + b"x 0.0078\n", "old.cache:2: 'x 0.0078': expected"),
        (HEAD + b"x: 3c010a14\n\xfe\xff: 3c010a14\n", "old.cache:3: not text in UTF-8"),
        (HEAD + b"x: 7fc00000\n", r"old.cache:2: tensor 'x' has scale nan \(7fc00000\), expected 0 or a pos"),
        (HEAD + b"x: 7f800000\n", "old.cache:2: tensor 'x' has scale inf"),
        (HEAD + b"x: bc010a14\n", "old.cache:2: tensor 'x' has scale -0.00787594"),
        (HEAD + b"x: 0\n\ny: 0\nx: 3c010a14\n", "old.cache:5: tensor 'x' stands there twice"),
    ],
)
def test_a_damaged_file_is_refused_with_the_line(content, message):
    with pytest.raises(ConfigError, match=message):
        parse(content)


def test_a_file_is_not_read_beyond_the_limit(tmp_path):
    path = tmp_path / "huge.cache"
    path.write_bytes(HEAD + b"x: 3c010a14\n")
    os.truncate(path, MAX_CACHE_BYTES + 1)
    with pytest.raises(
        ConfigError, match=r"huge.cache: expected a calibration cache of at most 16777216 bytes"
    ):
        read_calibration_cache(path)


def test_a_file_that_cannot_be_read_says_why(tmp_path):
    with pytest.raises(ConfigError, match=r"absent: cannot be read: No such file"):
        read_calibration_cache(tmp_path / "absent")
    with pytest.raises(ConfigError, match=r"cannot be read: Is a directory"):
        read_calibration_cache(tmp_path)


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "new.cache"
    path.write_bytes(b"old")
    write_calibration_cache(path, cache(x=0.5))
    assert read_calibration_cache(path) == cache(x=0.5)
    write_calibration_cache(path, b"as TensorRT gave it")
    assert path.read_bytes() == b"as TensorRT gave it"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    def full(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "new.cache"
    write_calibration_cache(path, cache(x=0.5))
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        ConfigError, match=r"new.cache: the calibration cache cannot be written: No space left"
    ):
        write_calibration_cache(path, cache(x=0.25))
    assert read_calibration_cache(path) == cache(x=0.5)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "scale", "message"),
    [
        ("x", float("nan"), "tensor 'x' has scale nan, expected 0 or a positive number"),
        ("x", float("inf"), "tensor 'x' has scale inf"),
        ("x", -1.0, "tensor 'x' has scale -1"),
        ("x", 1e39, r"tensor 'x' has scale 1e\+39, expected what a float32 can hold"),
        ("a\nb", 1.0, r"tensor 'a\\nb': a calibration cache cannot hold this name"),
        ("", 1.0, "tensor '': a calibration cache cannot hold this name"),
    ],
)
def test_what_a_cache_cannot_hold_is_refused(name, scale, message):
    with pytest.raises(ConfigError, match=message):
        cache(**{name: scale}).encode()


@given(st.dictionaries(names, st.floats(1e-30, 1e30), min_size=1))
def test_thresholds_come_back_from_the_cache_of_them(thresholds):
    written = cache_from_thresholds(thresholds, (10, 3, 0))
    read = thresholds_from_cache(parse(written.encode()), FILE, list(thresholds), list(thresholds))
    assert read.thresholds == pytest.approx(thresholds, rel=1e-6)
    assert read.without_range == read.without_entry == ()


def test_thresholds_become_the_bytes_that_tensorrt_reads():
    written = cache_from_thresholds({"x": 1.0, "conv: 1": 127.0, "dead": 0.0}, (8, 5, 1), "MinMaxCalibration")
    assert written.encode() == b"TRT-8501-MinMaxCalibration\nx: 3c010204\nconv: 1: 3f800000\ndead: 0\n"


def test_a_release_without_calibrators_gets_no_cache():
    with pytest.raises(ConfigError, match=r"TensorRT 11.1.0 reads no calibration caches.*Q/DQ"):
        cache_from_thresholds({"x": 1.0}, (11, 1, 0))


@pytest.mark.parametrize("amax", [float("nan"), float("inf"), -1.0])
def test_a_threshold_that_is_none_is_named(amax):
    with pytest.raises(ConfigError, match="tensor 'x' has scale"):
        cache_from_thresholds({"x": amax}, (10, 3, 0))


def test_a_cache_speaks_of_the_tensors_that_are_wanted():
    found = thresholds_from_cache(
        parse(REAL),
        FILE,
        graph=["input", "conv", "366", "input_1:0"],
        wanted=["input_1:0", "conv", "366", "input"],
    )
    assert list(found.thresholds) == ["input_1:0", "input"]
    assert found.without_range == ("366",)
    assert found.without_entry == ("conv",)
    assert found.left_out == (
        "(Unnamed Layer* 64) [Shuffle]_output",
        "(Unnamed Layer* 0) [Convolution]_output",
    )


def test_without_a_wish_all_tensors_are_wanted():
    found = thresholds_from_cache(cache(x=1.0), FILE, ["x", "y"])
    assert (found.thresholds, found.without_entry) == ({"x": 127.0}, ("y",))


def test_entries_that_a_parser_added_do_not_make_it_another_network():
    extra = {f"ONNXTRT_Broadcast_{number}": 1.0 for number in range(69)}
    graph = [f"t{number}" for number in range(142)]
    found = thresholds_from_cache(cache(**extra, **dict.fromkeys(graph, 1.0)), FILE, graph)
    assert (len(found.thresholds), len(found.left_out)) == (142, 69)


def test_entries_that_fusion_took_away_do_not_make_it_another_network():
    found = thresholds_from_cache(cache(a=1.0, b=1.0), FILE, [*"abcdefgh"])
    assert (len(found.thresholds), len(found.without_entry)) == (2, 6)


@pytest.mark.parametrize(
    ("lists", "has", "message"),
    [
        (
            "abc",
            "xyz",
            "old.cache: is of another network: 0 of its 3 named tensors are among the 3 of the model",
        ),
        ("abc", "xyz", "It lists 'a' and 'b', the model has 'x' and 'y'. Give the cache that was made from"),
        ("abc", "ayz", "1 of its 3 named tensors .* It lists 'b' and 'c', the model has 'y' and 'z'"),
        ("a", "xyz", "It lists 'a', the model has 'x' and 'y'"),
    ],
)
def test_a_cache_of_another_network_is_refused(lists, has, message):
    with pytest.raises(ConfigError, match=message):
        thresholds_from_cache(cache(**dict.fromkeys(lists, 1.0)), FILE, list(has))


def test_a_cache_without_a_name_of_the_model_is_refused():
    unnamed = CalibrationCache(8401, "EntropyCalibration2", {"(Unnamed Layer* 0) [Scale]_output": 1.0})
    with pytest.raises(
        ConfigError, match=r"0 of its 0 named .* lists '\(Unnamed Layer\* 0\) \[Scale\]_output'"
    ):
        thresholds_from_cache(unnamed, FILE, ["x"])


def test_a_cache_without_a_range_for_anything_is_refused():
    with pytest.raises(ConfigError, match=r"has a range for none of the 1 tensors to be quantized \('x'\)"):
        thresholds_from_cache(cache(x=0.0, y=1.0), FILE, ["x", "y"], ["x"])

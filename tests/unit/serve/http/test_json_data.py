"""Inputs' `data`: nested anyhow, read in pieces, within bounds."""

from __future__ import annotations

import json

import msgspec
import numpy as np
import pytest

from edgert.errors import RequestError
from edgert.serve.bodies import TooLargeError
from edgert.serve.datatypes import array_dtype
from edgert.serve.http import json_data
from edgert.serve.http.infer_body import InferBody, check_outline, read_json
from edgert.serve.http.json_data import given_data, read_data


def read(text, datatype="FP32"):
    return read_data(text, datatype, array_dtype(datatype))


@pytest.fixture
def short_pieces(monkeypatch):
    monkeypatch.setattr(json_data, "PIECE_BYTES", 7)


@pytest.mark.usefixtures("short_pieces")
@pytest.mark.parametrize("shape", [(60,), (3, 20), (2, 3, 2, 5)])
@pytest.mark.parametrize("datatype", ["FP32", "FP64", "INT8", "UINT64", "BOOL"])
def test_pieces_are_the_whole(shape, datatype):
    array = (np.arange(60) % 2).astype(array_dtype(datatype)).reshape(shape)
    for separators in ((",", ":"), (" , ", ": ")):
        found = read(json.dumps(array.tolist(), separators=separators).encode(), datatype)
        assert found.dtype == array.dtype
        np.testing.assert_array_equal(found, array.ravel())


@pytest.mark.usefixtures("short_pieces")
@pytest.mark.parametrize(
    ("text", "elements"),
    [
        (b"[]", []),
        (b"[[ ], []]", []),
        (b"[[1.5],[],[[2]],3]", [1.5, 2, 3]),
        (b"[[1],[]]", [1]),
        (b"[1, [2, [3]], 100000, 2e3]", [1, 2, 3, 100_000, 2000]),
        (b"[NaN, 1.25, [-Infinity, 100], Infinity]", [np.nan, 1.25, -np.inf, 100, np.inf]),
        (b"[[], NaN]", [np.nan]),
    ],
)
def test_nesting_has_no_meaning(text, elements):
    np.testing.assert_array_equal(read(text), np.array(elements, np.float32))


def test_texts_are_elements_too():
    text = '[["a,b", "[1]"], [], "\u00fc"]'.encode()
    assert read(text, "BYTES").tolist() == [b"a,b", b"[1]", "\u00fc".encode()]


@pytest.mark.usefixtures("short_pieces")
@pytest.mark.parametrize(
    ("text", "datatype"),
    [
        (b'[1, 2, "3"]', "FP32"),
        (b"[1, 300]", "UINT8"),
        (b"[1.5]", "INT32"),
        (b"[1]", "BOOL"),
        (b"[null]", "FP64"),
    ],
)
def test_other_elements_are_refused(text, datatype):
    with pytest.raises(msgspec.ValidationError):
        read(text, datatype)


def test_what_is_no_list_is_refused():
    with pytest.raises(RequestError, match="non-array as array"):
        read(b"5")


def test_a_number_beyond_all_bounds_is_refused():
    with pytest.raises(FloatingPointError):
        read(b"[1e40]")
    with pytest.raises(ValueError, match="digits"):
        read(b"[[], NaN, %b]" % (b"1" * 5000))


def test_data_may_be_null():
    tree = '{"inputs":[{"name":"a","shape":[1],"datatype":"FP32","data":%s}]}'
    for data, expected in (("null", None), ("[NaN]", b"[NaN]"), ("[1, 2]", b"[1, 2]")):
        body = read_json(memoryview((tree % data).encode()), InferBody)
        assert given_data(body.inputs[0].data) == expected
    assert given_data(None) is None


@pytest.mark.parametrize(("datatype", "element"), [("FP32", b"[]"), ("BYTES", b"[]"), ("BYTES", b'""')])
def test_millions_of_lists_and_texts_are_not_read(datatype, element):
    with pytest.raises(TooLargeError, match="elements and lists"):
        read(b"[" + b",".join([element] * 1_000_000) + b"]", datatype)


LONG = [
    b'{"inputs":[],"parameters":{"a":[%b]}}' % b",".join([b"[]"] * 200_000),
    b'{"inputs":[],"outputs":[%b]}' % b",".join([b'{"name":""}'] * 30_000),
    b'{"inputs":[%b]}' % b",".join([b"{}"] * 100_000),
    b'{"inputs":[{"shape":[%b],"data":[1]}]}' % b",".join([b"1"] * 200_000),
]


@pytest.mark.parametrize("text", LONG)
def test_what_is_long_beside_data_is_not_read(text):
    with pytest.raises(TooLargeError, match="the JSON of a request may have"):
        check_outline(memoryview(text))


def test_data_may_be_long():
    check_outline(memoryview(b'{"inputs":[{"data":[%b]}]}' % b",".join([b"0.125"] * 500_000)))
    check_outline(memoryview(b"[" * 300_000))  # malformed: whoever reads it says so


def test_long_json_with_nan_is_refused():
    text = b'{"inputs":[{"name":"a","shape":[1],"datatype":"FP32","data":[NaN,%b]}]}'
    with pytest.raises(TooLargeError, match="NaN or Infinity"):
        read_json(memoryview(text % b",".join([b"[]"] * 500_000)), InferBody)

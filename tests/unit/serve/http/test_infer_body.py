"""What a request's JSON may say."""

from __future__ import annotations

import json

import pytest

from edgert.errors import RequestError
from edgert.serve.http.infer_body import MAX_TIMEOUT_US, InferBody, read_json, read_settings

LARGEST = {"timeout": MAX_TIMEOUT_US, "priority": 2**32 - 1, "sequence_id": 2**64 - 1, "own": 2**64 - 1}


@pytest.mark.parametrize("name", LARGEST)
def test_integers_have_bounds(name):
    settings, others = read_settings({name: LARGEST[name]})
    assert others.get(name) or getattr(settings, name) == LARGEST[name]
    with pytest.raises(RequestError, match=name):
        read_settings({name: LARGEST[name] + 1})
    with pytest.raises(RequestError, match=name):
        read_settings({name: -(2**63) - 1})


@pytest.mark.parametrize("side", [2**63, 2**64, "9" * 400, "9" * 5000])
def test_sides_have_bounds(side):
    for element in ("1", "NaN"):
        inputs = f'{{"name": "a", "datatype": "FP32", "data": [{element}], "shape": [1, {side}]}}'
        with pytest.raises(RequestError):
            read_json(memoryview(f'{{"inputs": [{inputs}]}}'.encode()), InferBody)


def test_there_are_at_most_32_sides():
    tree = {"inputs": [{"name": "a", "datatype": "FP32", "data": [1], "shape": [1] * 33}]}
    with pytest.raises(RequestError, match="shape"):
        read_json(memoryview(json.dumps(tree).encode()), InferBody)


@pytest.mark.parametrize("text", [b"\\ud800", b"\xed\xa0\x80", b"\xff"])
def test_half_a_character_is_no_text(text):
    data = b'{"inputs": [{"name": "a", "datatype": "FP32", "data": [NaN], "shape": [1]}], "id": "%s"}' % text
    with pytest.raises(RequestError):
        read_json(memoryview(data), InferBody)
    assert read_json(memoryview(data.replace(text, rb"\ud83d\ude00")), InferBody).id == "\U0001f600"

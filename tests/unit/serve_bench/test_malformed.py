"""Malformed requests."""

import json
import random

import pytest

from tests.serve_bench.malformed import PREFACE, first_api, http2_frames, http_body, http_head, mutated

TREE = {"inputs": [{"name": "INPUT0", "shape": [1, 16], "datatype": "FP32", "parameters": {"x": 1}}]}
JSON = json.dumps(TREE).encode()
BODY = JSON + bytes(64)
MAKERS = {
    "body": lambda dice: http_body(BODY, len(JSON), dice),
    "head": lambda dice: http_head(BODY, len(JSON), dice),
    "first": first_api,
    "frames": lambda dice: http2_frames(BODY, dice),
    "message": lambda dice: mutated(BODY, dice),
}


@pytest.mark.parametrize("kind", MAKERS)
def test_a_seed_gives_the_same_requests_and_they_differ_from_each_other(kind):
    runs = []
    for _ in range(2):
        dice = random.Random(5)
        runs.append([MAKERS[kind](dice) for _ in range(200)])
    assert runs[0] == runs[1]
    assert len(set(runs[0])) > 150


def test_a_malformed_body_has_a_proper_head():
    dice = random.Random(1)
    for _ in range(200):
        head, _, body = http_body(BODY, len(JSON), dice).partition(b"\r\n\r\n")
        assert f"Content-Length: {len(body)}\r\n".encode() in head
        assert body != BODY


def test_frames_begin_as_http2_must():
    dice = random.Random(1)
    assert all(http2_frames(BODY, dice).startswith(PREFACE) for _ in range(50))

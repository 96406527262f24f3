"""The classification extension."""

from __future__ import annotations

import numpy as np
import pytest

from edgert.errors import RequestError
from edgert.serve.classify import classify

LABELS = ("cat", "dog", "")


def test_values_are_as_the_inference_server_writes_them():
    scores = np.array([[0.25, 3, -1, 2]], np.float32)
    found = classify(scores, 3, LABELS)
    assert found.tolist() == [[b"3.000000:1:dog", b"2.000000:3", b"0.250000:0:cat"]]
    assert found.dtype == object


def test_whole_numbers_have_no_point():
    assert classify(np.array([[2, 250]], np.uint8), 1, ()).tolist() == [[b"250:1"]]


def test_a_model_that_does_not_batch_has_no_batch_axis():
    scores = np.array([[1, 2], [3, 4]], np.float16)
    assert classify(scores, 1, (), is_batched=False).tolist() == [b"4.000000:3"]
    assert classify(scores[0], 1, ()).tolist() == [b"2.000000:1"]


def test_more_axes_are_one():
    scores = np.arange(8, dtype=np.int64).reshape(2, 2, 2)
    assert classify(scores, 1, ()).tolist() == [[b"3:3"], [b"7:3"]]


def test_more_than_there_are_is_all():
    assert classify(np.zeros((1, 2), np.float32), 9, ()).shape == (1, 2)


def test_of_equals_the_first_comes_first_and_what_is_no_number_last():
    scores = np.array([[np.nan, 1, 1, -np.inf]], np.float32)
    assert [text.split(b":")[1] for text in classify(scores, 4, ())[0]] == [b"1", b"2", b"0", b"3"]


@pytest.mark.parametrize("array", [np.array([b"a"], object), np.array([True])])
def test_what_has_no_order_is_refused(array):
    with pytest.raises(RequestError, match="classification"):
        classify(array, 1, ())

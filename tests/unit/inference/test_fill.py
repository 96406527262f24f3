"""From requests' arrays to an engine's tensors."""

from __future__ import annotations

import numpy as np
import pytest

from edgert.inference.fill import EngineShapes, Part, write
from edgert.models.model_config import ModelConfig, TensorConfig


def shapes(dims, *, reshape=None, max_batch=8):
    tensor = TensorConfig(name="X", dtype="float32", dims=dims, reshape=reshape)
    return EngineShapes(ModelConfig(max_batch_size=max_batch, inputs=(tensor,)))


def parts(*arrays):
    return [Part({"X": array}, array.shape[0] if array.ndim else 1) for array in arrays]


def filled(shape, *arrays, dtype=np.float32):
    tensor = np.full(shape, 9, dtype)
    write(tensor, "X", parts(*arrays))
    return tensor


@pytest.mark.parametrize(
    ("dims", "reshape", "shape", "expected"),
    [
        ((4,), None, (2, 4), (5, 4)),
        ((-1,), None, (2, 7), (5, 7)),
        ((2, 2), (4,), (2, 2, 2), (5, 4)),
        ((1,), (), (2, 1), (5,)),
        ((1, -1), (-1,), (2, 1, 6), (5, 6)),
        ((-1, 2, -1), (2, -1, 1, -1), (2, 3, 2, 4), (5, 2, 3, 1, 4)),
    ],
)
def test_the_engine_sees_the_whole_batch_in_its_own_shape(dims, reshape, shape, expected):
    one, rest = np.zeros(shape, np.float32), np.zeros((3, *shape[1:]), np.float32)
    assert shapes(dims, reshape=reshape).of(parts(one, rest)) == {"X": expected}


def test_without_a_batch_axis_the_shape_is_whole():
    assert shapes((2, 3), reshape=(6,), max_batch=0).of(parts(np.zeros((2, 3)))) == {"X": (6,)}


def test_parts_stand_one_behind_the_other():
    one, two = np.arange(2, dtype=np.float32).reshape(1, 2), np.arange(2, 6, dtype=np.float32).reshape(2, 2)
    np.testing.assert_array_equal(filled((3, 2), one, two), [[0, 1], [2, 3], [4, 5]])


def test_arrays_that_are_views_are_written_in_their_own_order():
    turned = np.arange(6, dtype=np.float32).reshape(2, 3).T
    np.testing.assert_array_equal(filled((3, 2), turned), turned)
    np.testing.assert_array_equal(filled((4, 2), turned[:2], turned[1:]), [*turned[:2], *turned[1:]])


def test_tensors_without_elements_are_no_special_case():
    assert filled((3, 0), np.zeros((1, 0), np.float32), np.zeros((2, 0), np.float32)).shape == (3, 0)


def test_scalars_for_each_row_come_from_arrays_of_one():
    np.testing.assert_array_equal(
        filled((3,), *(np.full((1, 1), n, np.float32) for n in range(3))), [0, 1, 2]
    )


@pytest.mark.parametrize(("given", "dtype"), [(">f4", "float32"), ("bool", "bool"), ("uint16", "uint16")])
def test_the_same_type_in_another_byte_order_is_the_same_type(given, dtype):
    array = np.array([[0, 1]], given)
    np.testing.assert_array_equal(filled((1, 2), array, dtype=dtype), [[0, 1]])


def test_another_type_is_never_converted():
    with pytest.raises(TypeError, match="Cannot cast"):
        filled((1, 2), np.zeros((1, 2), np.float64))

"""What requests must look like."""

from __future__ import annotations

import numpy as np
import pytest

from edgert.errors import RequestError
from edgert.frames.request import InferRequest
from edgert.inference.signature import Signature
from edgert.models.model_config import ModelConfig, TensorConfig

X = TensorConfig(name="X", dtype="float32", dims=(16,))
OUT = TensorConfig(name="OUT", dtype="float32", dims=(16,))


def signature(*inputs, max_batch=8, hidden=()):
    return Signature(
        "m", ModelConfig(max_batch_size=max_batch, inputs=inputs or (X,), outputs=(OUT,)), hidden
    )


def request(outputs=(), name="", **inputs):
    return InferRequest(model="m", inputs=inputs, outputs=outputs, id=name, responder=None)


def f32(*shape):
    return np.zeros(shape, np.float32)


def test_a_request_that_fits_takes_the_rows_of_its_first_axis():
    fit = signature().check(request(X=f32(3, 16)))
    assert fit.rows == 3
    assert fit.key is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (request(), r"expected 1 inputs but got 0 inputs for model 'm'. Got input\(s\) \[\], but missing"),
        (request(FOO=f32(1, 16)), "unexpected inference input 'FOO' for model 'm'"),
        (
            request(X=np.zeros((1, 16), np.int32), name="7"),
            r"request id: 7\] .*data-type is 'INT32', but .* 'FP32'",
        ),
        (request(X=f32(9, 16)), "batch-size must be <= 8 for 'm'"),
        (request(X=f32(0, 16)), "batch-size must be >= 1 for 'm'"),
        (request(X=f32(1, 4, 4)), r"Expected \[-1,16\], got \[1,4,4\]. NOTE"),
        (request(X=f32()), r"Expected \[-1,16\], got \[\]"),
        (request(X=f32(1, 16), outputs=("Y",)), "unexpected inference output 'Y' for model 'm'"),
    ],
)
def test_what_does_not_fit_is_refused_in_the_words_that_clients_know(given, message):
    with pytest.raises(RequestError, match=message):
        signature().check(given)


def test_a_model_without_a_batch_axis_takes_its_whole_shape():
    whole = signature(max_batch=0)
    assert whole.check(request(X=f32(16))).rows == 1
    with pytest.raises(RequestError, match=r"Expected \[16\], got \[1,16\]. $"):
        whole.check(request(X=f32(1, 16)))


def test_inputs_of_one_request_have_as_many_rows():
    two = signature(X, TensorConfig(name="Y", dtype="float32", dims=(2,)))
    assert two.check(request(X=f32(2, 16), Y=f32(2, 2))).rows == 2
    with pytest.raises(RequestError, match=r"'Y' for model 'm'. Expected \[-1,2\], got \[3,2\]"):
        two.check(request(X=f32(2, 16), Y=f32(3, 2)))


def test_requests_of_different_variable_shapes_never_share_a_batch():
    loose = signature(TensorConfig(name="X", dtype="float32", dims=(-1,)))
    keys = [loose.check(request(X=f32(1, side))).key for side in (4, 5, 4)]
    assert keys[0] == keys[2] != keys[1]


def test_shape_tensors_of_different_values_never_share_a_batch():
    shaped = signature(X, TensorConfig(name="S", dtype="int32", dims=(2,), is_shape_tensor=True))
    keys = [
        shaped.check(request(X=f32(1, 16), S=np.array(values, np.int32))).key
        for values in ([1, 2], [1, 3], [1, 2])
    ]
    assert keys[0] == keys[2] != keys[1]


def test_an_optional_input_may_be_left_out_and_sets_requests_apart():
    optional = signature(X, TensorConfig(name="Y", dtype="float32", dims=(2,), optional=True))
    without, with_it = (
        optional.check(request(X=f32(1, 16))),
        optional.check(request(X=f32(1, 16), Y=f32(1, 2))),
    )
    assert without.key != with_it.key


def test_a_hidden_input_is_neither_needed_nor_allowed():
    hidden = signature(X, TensorConfig(name="START", dtype="int32", dims=(1,)), hidden=("START",))
    assert hidden.check(request(X=f32(1, 16))).rows == 1
    with pytest.raises(RequestError, match="unexpected inference input 'START'"):
        hidden.check(request(X=f32(1, 16), START=np.zeros((1, 1), np.int32)))


def test_bf16_comes_as_uint16():
    bf16 = signature(TensorConfig(name="X", dtype="bfloat16", dims=(2,)))
    assert bf16.check(request(X=np.zeros((1, 2), np.uint16))).rows == 1

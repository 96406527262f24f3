"""Warmups that cannot be meant."""

import pytest

from edgert.models.config_pbtxt import parse_config
from edgert.models.model_config import Warmup, WarmupInput
from tests.fakes.refused_config import HEAD, refuse


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\nbatch_size: 0", "2: field model_warmup[0].batch_size: found 0, expected 1 or more"),
        ("batch_size: 9", "field model_warmup[0].batch_size: found 9, expected at most max_batch_size, 8"),
        ('inputs { key: "x" value { data_type: TYPE_FP32 } }', "'x' has none of zero_data, random_data,"),
        ('inputs { key: "w" value { zero_data: true } }', "'w' has no data_type"),
        (
            'inputs { key: "w" value { data_type: TYPE_FP32 dims: -1 zero_data: true } }',
            "expected no variable side",
        ),
        (
            'inputs { key: "w" value { data_type: TYPE_FP32 input_data_file: "" } }',
            "'w' has no input_data_file",
        ),
        (
            'inputs { key: "x" value { data_type: TYPE_INT8 dims: 3 zero_data: true } }',
            "'x' is int8, expected float32",
        ),
        (
            'inputs { key: "x" value { data_type: TYPE_FP32 dims: 4 zero_data: true } }',
            "'x' has dims [4], expected [3]",
        ),
        (
            'inputs { key: "x" value { data_type: TYPE_FP32 dims: 3 zero_data: true random_data: true } }',
            "inputs.value.random_data: stands beside another, expected only one of zero_data, random_data,",
        ),
    ],
)
def test_impossible_warmup_is_told(text, message):
    assert message in refuse(f"{HEAD}model_warmup {{ {text} }}")


def test_warmup_is_read():
    text = """model_warmup { name: "w" batch_size: 2 count: 0 inputs { key: "x" value { data_type: TYPE_FP32
    dims: 3 input_data_file: "x.bin" } } }"""
    wanted = WarmupInput(dtype="float32", dims=(3,), kind="file", file="x.bin")
    assert parse_config(text).config.warmups == (
        Warmup(name="w", batch_size=2, count=1, inputs={"x": wanted}),
    )

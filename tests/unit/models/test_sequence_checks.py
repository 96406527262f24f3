"""Sequences that cannot be meant."""

import pytest

from edgert.models.config_pbtxt import parse_config
from edgert.models.model_config import InitialState, SequenceBatching
from tests.fakes.refused_config import HEAD, refuse

START = "control { kind: CONTROL_SEQUENCE_START fp32_false_true: [ 0, 1 ] }"
STATE = 'input_name: "i" output_name: "o" data_type: TYPE_FP32 dims: 3'
INITIAL = 'initial_state { name: "z" data_type: TYPE_FP32 dims: 3 zero_data: true }'
OF_FILE = INITIAL.replace("zero_data: true", "data_file: ''")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "direct {\n minimum_slot_utilization: 1.5 }",
            "2: field sequence_batching.direct.minimum_slot_utiliz",
        ),
        ("direct { minimum_slot_utilization: nan }", "found nan, expected 0 to 1"),
        (
            "oldest {\n}",
            "1: field sequence_batching.oldest.max_candidate_sequences: found 0, expected 1 or more",
        ),
        (
            "oldest { max_candidate_sequences: 1\n preferred_batch_size: [ 8, 9 ] }",
            "2: field sequence_batching.oldest.preferred_batch_size: found 9, expected 1 to max_",
        ),
        (f"control_input {{\n {START} }}", "1: field sequence_batching.control_input[0].name: not given"),
        (
            f'control_input {{ name: "a" {START} }}\ncontrol_input {{ name: "a" {START} }}',
            "2: field sequence_batching.control_input[1].name: found 'a' again",
        ),
        (
            f'control_input {{ name: "a" {START} }}\ncontrol_input {{ name: "b" {START} }}',
            "2: field sequence_batching.control_input[1].control[0].kind: found START again",
        ),
        ('control_input { name: "a" }', "control_input[0]: found 0 controls, expected 1 for each input"),
        (f'control_input {{ name: "a" {START} {START} }}', "control_input[0]: found 2 controls, expected 1"),
        (
            'control_input { name: "a" control { } }',
            "control[0]: found none, expected one of int32_false_true,",
        ),
        (
            'control_input { name: "a" control { fp32_false_true: [ 0, 1 ] int32_false_true: [ 0, 1 ] } }',
            "control[0]: found int32_false_true and fp32_false_true, expected one of",
        ),
        (
            'control_input { name: "a" control {\n bool_false_true: [ true ] } }',
            "2: field sequence_batching.control_input[0].control[0].bool_false_true: found [True], ",
        ),
        (
            'control_input { name: "a" control { fp32_false_true: [ 0, inf ] } }',
            "control[0]: found (0.0, inf), expected finite values",
        ),
        (
            'control_input { name: "a" control { kind: CONTROL_SEQUENCE_CORRID } }',
            "control[0].data_type: found none, expected one of uint64, int64, uint32, int32, object",
        ),
        (
            'control_input { name: "a" control { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_FP32 } }',
            "control[0].data_type: found float32, expected one of uint64",
        ),
        (
            'control_input { name: "a" control { kind: CONTROL_SEQUENCE_CORRID int32_false_true: 1 } }',
            "control[0].int32_false_true: stands beside CONTROL_SEQUENCE_CORRID",
        ),
        ("state {\n}", "1: field sequence_batching.state[0].input_name: not given"),
        ('state { input_name: "i" }', "state[0].output_name: not given"),
        ('state { input_name: "i" output_name: "o" }', "state[0].data_type: not given"),
        (f"state {{ {STATE} dims: -2 }}", "state[0].dims: found -2, expected 0 or more"),
        (
            f"state {{ {STATE} }}\nstate {{ {STATE} }}",
            "2: field sequence_batching.state[1].input_name: found 'i'",
        ),
        (
            f'control_input {{ name: "i" {START} }} state {{ {STATE} }}',
            "state[0].input_name: found 'i' again, expected each name once",
        ),
        (
            'state { input_name: "x" output_name: "o" data_type: TYPE_INT32 dims: 3 }',
            "state[0].data_type: found int32, expected float32 as 'x' has",
        ),
        (
            'state { input_name: "i" output_name: "y" data_type: TYPE_FP32 dims: 4 }',
            "state[0].dims: found [4], expected [3] as 'y' has",
        ),
        (
            f"state {{ {STATE} {INITIAL}\n{INITIAL} }}",
            "2: field sequence_batching.state[0].initial_state: found 2",
        ),
        (f"state {{ {STATE} initial_state {{ }} }}", "initial_state[0]: has none of zero_data, data_file"),
        (f"state {{ {STATE} initial_state {{ zero_data: true }} }}", "initial_state[0].name: not given"),
        (
            f'state {{ {STATE} initial_state {{ name: "z" zero_data: true }} }}',
            "initial_state[0].data_type: found none, expected float32 as the state has",
        ),
        (
            f"state {{ {STATE} {INITIAL.replace('dims: 3', 'dims: -1')} }}",
            "initial_state[0].dims: found [-1], expected [3] without variable sides",
        ),
        (
            f"state {{ {STATE} {OF_FILE} }}",
            "initial_state[0].data_file: found '', expected a file's name",
        ),
    ],
)
def test_impossible_sequence_is_told_with_line_and_field(text, message):
    said = refuse(f"{HEAD}sequence_batching {{ {text} }}")
    assert message in said
    assert said.startswith("config.pbtxt:")


def test_sequence_is_read():
    config = parse_config(
        f"sequence_batching {{ max_sequence_idle_microseconds: 0 state {{ {STATE} {INITIAL} }} }}"
    ).config.sequence_batching
    assert (config.kind, config.max_sequence_idle_microseconds) == ("direct", 1_000_000)
    assert config.states[0].initial == InitialState(name="z", dtype="float32", dims=(3,))
    assert parse_config("sequence_batching { }").config.sequence_batching == SequenceBatching()

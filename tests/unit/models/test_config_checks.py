"""Values that have the right type and still cannot be meant."""

import pytest

from edgert.errors import ModelError
from edgert.models.config_pbtxt import parse_config


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\nmax_batch_size: -1", "2: field max_batch_size: found -1, expected 0 or more"),
        ("input { }", "1: field input[0].name: not given, expected the tensor's name"),
        ('output {\n name: "" }', "2: field output[0].name: not given, expected the tensor's name"),
        (
            'input { name: "a" }\ninput {\n name: "a" }',
            "3: field input[1].name: found 'a' again, expected each name once",
        ),
        (
            'input { name: "a"\n dims: [ 3, -2 ] }',
            "2: field input[0].dims: found -2, expected 0 or more, or -1 for a variable side",
        ),
        (
            'output { name: "a" dims: 1 reshape {\n shape: -7 } }',
            "2: field output[0].reshape.shape: found -7, expected 0 or more",
        ),
        (
            'output { name: "a" dims: [ 2, 3 ]\n reshape { } }',
            "2: field output[0].reshape.shape: found [], expected as many elements as dims [2, 3]",
        ),
        ("version_policy { latest { num_versions: 0 } }", "latest.num_versions: found 0, expected 1 or more"),
        ("version_policy {\n specific { } }", "2: field version_policy.specific.versions: found none"),
        (
            "version_policy { specific { versions: [ 1, 0 ] } }",
            "specific.versions: found 0, expected 1 or more",
        ),
        ("instance_group { count: 0 }", "field instance_group[0].count: found 0, expected 1 or more"),
        ("instance_group { }\ninstance_group {\n gpus: -1 }", "3: field instance_group[1].gpus: found -1"),
        (
            "instance_group { kind: KIND_CPU gpus: 0 }",
            "field instance_group[0].gpus: given with KIND_CPU, expected KIND_GPU or KIND_AUTO",
        ),
        (
            "instance_group { secondary_devices { device_id: -1 } }",
            "field instance_group[0].secondary_devices[0].device_id: found -1, expected 0 or more",
        ),
        (
            'cc_model_filenames { key: "sm_87" value: "a" }',
            "field cc_model_filenames: found key 'sm_87', expected a compute capability such as '8.7'",
        ),
        (
            "max_batch_size: 4\ndynamic_batching { preferred_batch_size: [ 4, 8 ] }",
            "2: field dynamic_batching.preferred_batch_size: found 8, expected at most max_batch_size, 4",
        ),
        ("dynamic_batching { preferred_batch_size: 0 }", "preferred_batch_size: found 0, expected 1 or more"),
        (
            "dynamic_batching { priority_levels: 3 }",
            "default_priority_level: found 0, expected 1 to 3, the priority_levels",
        ),
        ("dynamic_batching { default_priority_level: 1 }", "found 1, expected priority_levels beside it"),
        (
            "dynamic_batching { priority_levels: 2 default_priority_level: 1\n"
            "priority_queue_policy [ { key: 2 value { } }, { key: 3 value { } } ] }",
            "2: field dynamic_batching.priority_queue_policy: found key 3, expected 1 to 2",
        ),
        (
            "dynamic_batching { priority_levels: 2 default_priority_level: 1\npreserve_ordering: true }",
            "2: field dynamic_batching.preserve_ordering: stands beside 2 priority_levels",
        ),
        (
            "dynamic_batching { preserve_ordering: true default_queue_policy { timeout_action: DELAY } }",
            "preserve_ordering: stands beside timeout_action: DELAY, expected REJECT",
        ),
        (
            "instance_group { rate_limiter { resources { name: 'r' }\n resources { count: 1 } } }",
            "2: field instance_group[0].rate_limiter.resources[1].name: not given",
        ),
        (
            "response_cache { enable: true }\nmodel_transaction_policy { decoupled: true }",
            "1: field response_cache: stands beside model_transaction_policy.decoupled",
        ),
        (
            "response_cache { enable: true } sequence_batching { }",
            "field response_cache: stands beside sequence_batching",
        ),
    ],
)
def test_impossible_value_is_told_with_line_and_field(text, message):
    with pytest.raises(ModelError) as caught:
        parse_config(text)
    assert message in str(caught.value)
    assert str(caught.value).startswith("config.pbtxt:")


@pytest.mark.parametrize(
    ("dims", "shape"),
    [
        ("[ 1 ]", "[ ]"),
        ("[ 6 ]", "[ 2, 3 ]"),
        ("[ -1 ]", "[ -1, 1 ]"),
        ("[ 4, -1, 6 ]", "[ 2, 2, -1, 3, 2 ]"),
    ],
)
def test_reshape_keeps_the_elements_between_variable_sides(dims, shape):
    text = f'input {{ name: "a" dims: {dims} reshape {{ shape: {shape} }} }}'
    assert parse_config(text).config.inputs[0].reshape is not None


@pytest.mark.parametrize(
    ("dims", "shape"), [("[ -1 ]", "[ 3 ]"), ("[ 2, -1 ]", "[ -1, 2 ]"), ("[ 0 ]", "[ 1 ]")]
)
def test_reshape_to_other_elements_is_refused(dims, shape):
    with pytest.raises(ModelError, match=r"reshape\.shape: found .* expected as many elements"):
        parse_config(f'input {{ name: "a" dims: {dims} reshape {{ shape: {shape} }} }}')


def test_input_and_output_may_share_a_name():
    assert parse_config('input { name: "state" } output { name: "state" }').config.outputs[0].name == "state"


def test_preferred_sizes_wait_for_the_engine_where_max_batch_size_is_not_given():
    config = parse_config("dynamic_batching { preferred_batch_size: 64 }").config
    assert config.dynamic_batching.preferred_batch_size == (64,)

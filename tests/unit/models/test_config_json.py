"""What clients see of a configuration, and what they may put in its place."""

import json

import pytest
from google.protobuf import text_format
from hypothesis import given, settings
from tritonclient.grpc import model_config_pb2

from edgert.errors import ModelError
from edgert.models.config_json import config_from_json, config_to_json, config_to_message
from edgert.models.config_message import message_of
from edgert.models.config_pbtxt import parse_config
from edgert.models.config_tree import tree_of
from edgert.models.model_config import ModelConfig, TensorConfig
from tests.unit.models.config_strategies import engine_configs, ensemble_configs

TENSORS = """
input { name: "x" data_type: TYPE_FP32 dims: [ 3 ] }
output { name: "y" data_type: TYPE_FP32 dims: [ -1 ] reshape { shape: [ -1, 1 ] } label_filename: "l" }
"""


def shown(text):
    return config_to_json(parse_config(text + TENSORS, model="a").config)


def test_answer_is_that_of_the_inference_server():
    """As tritonserver 2.51.0 answered on /v2/models/a/config for a model of its python backend."""
    tensor = {"data_type": "TYPE_FP32", "is_shape_tensor": False, "is_non_linear_format_io": False}
    assert shown('backend: "python" max_batch_size: 8 dynamic_batching { }') == {
        "name": "a",
        "platform": "",
        "backend": "python",
        "runtime": "",
        "version_policy": {"latest": {"num_versions": 1}},
        "max_batch_size": 8,
        "input": [
            {
                **tensor,
                "name": "x",
                "format": "FORMAT_NONE",
                "dims": [3],
                "allow_ragged_batch": False,
                "optional": False,
            }
        ],
        "output": [
            {**tensor, "name": "y", "dims": [-1], "reshape": {"shape": [-1, 1]}, "label_filename": "l"}
        ],
        "batch_input": [],
        "batch_output": [],
        "optimization": {
            "priority": "PRIORITY_DEFAULT",
            "input_pinned_memory": {"enable": True},
            "output_pinned_memory": {"enable": True},
            "gather_kernel_buffer_threshold": 0,
            "eager_batching": False,
        },
        "dynamic_batching": {
            "preferred_batch_size": [8],
            "max_queue_delay_microseconds": 0,
            "preserve_ordering": False,
            "priority_levels": 0,
            "default_priority_level": 0,
            "priority_queue_policy": {},
        },
        "instance_group": [
            {
                "name": "a",
                "kind": "KIND_CPU",
                "count": 1,
                "gpus": [],
                "secondary_devices": [],
                "profile": [],
                "passive": False,
                "host_policy": "",
            }
        ],
        "default_model_filename": "model.py",
        "cc_model_filenames": {},
        "metric_tags": {},
        "parameters": {},
        "model_warmup": [],
    }


def test_sequences_are_shown_with_defaults():
    batching = shown(
        """backend: "python" max_batch_size: 8 sequence_batching {
        oldest { max_candidate_sequences: 4 }
        control_input { name: "C" control { kind: CONTROL_SEQUENCE_START fp32_false_true: [ 0, 0.1 ] } }
        state { input_name: "i" output_name: "o" data_type: TYPE_FP32 dims: 2
                initial_state { name: "z" data_type: TYPE_FP32 dims: 2 zero_data: true } } }"""
    )["sequence_batching"]
    assert batching == {
        "oldest": {
            "max_candidate_sequences": 4,
            "preferred_batch_size": [8],
            "max_queue_delay_microseconds": 0,
            "preserve_ordering": False,
        },
        "max_sequence_idle_microseconds": 1000000,
        "control_input": [
            {
                "name": "C",
                "control": [
                    {
                        "kind": "CONTROL_SEQUENCE_START",
                        "int32_false_true": [],
                        "fp32_false_true": [0, 0.1],
                        "bool_false_true": [],
                        "data_type": "TYPE_INVALID",
                    }
                ],
            }
        ],
        "state": [
            {
                "input_name": "i",
                "output_name": "o",
                "data_type": "TYPE_FP32",
                "dims": [2],
                "initial_state": [{"data_type": "TYPE_FP32", "dims": [2], "zero_data": True, "name": "z"}],
                "use_same_buffer_for_input_output": False,
                "use_growable_memory": False,
            }
        ],
        "iterative_sequence": False,
    }


def test_ensemble_is_shown_without_what_engines_have():
    answer = shown(
        """platform: "ensemble" ensemble_scheduling { step { model_name: "b" model_version: -1
        input_map { key: "x" value: "x" } output_map { key: "z" value: "y" } } }"""
    )
    assert answer["ensemble_scheduling"] == {
        "step": [
            {
                "model_name": "b",
                "model_version": -1,
                "input_map": {"x": "x"},
                "output_map": {"z": "y"},
                "model_namespace": "",
            }
        ]
    }
    assert (answer["platform"], answer["instance_group"], answer["default_model_filename"]) == (
        "ensemble",
        [],
        "",
    )
    assert answer["model_transaction_policy"] == {"decoupled": False}
    assert "optimization" not in answer


def test_groups_without_a_name_are_numbered_and_get_the_kind_of_their_platform():
    groups = shown('platform: "tensorrt_plan" instance_group [ { }, { name: "q" kind: KIND_CPU } ]')
    assert [(group["name"], group["kind"]) for group in groups["instance_group"]] == [
        ("a_0", "KIND_GPU"),
        ("q", "KIND_CPU"),
    ]
    assert (groups["backend"], groups["default_model_filename"]) == ("tensorrt", "model.plan")


def test_what_is_not_followed_is_shown_and_told():
    text = """backend: "onnxruntime"
    batch_input { kind: BATCH_ITEM_SHAPE target_name: "q" source_input: "x" }
    optimization { priority: PRIORITY_MAX
      cuda { graph_spec { input { key: "x" value { dim: [ 1, 2 ] } } } } }
    model_metrics { metric_control { metric_identifier { family: "f" }
      histogram_options { buckets: [ 0.1, 1 ] } } }
    instance_group { host_policy: "h" }
    """
    reading = parse_config(text + TENSORS, model="a")
    answer = config_to_json(reading.config)
    assert answer["optimization"]["cuda"]["graph_spec"][0]["input"] == {"x": {"dim": [1, 2]}}
    assert answer["optimization"]["input_pinned_memory"] == {"enable": True}
    assert answer["batch_input"][0]["source_input"] == ["x"]
    control = answer["model_metrics"]["metric_control"][0]
    assert control["histogram_options"] == {"buckets": [0.1, 1.0]}
    assert reading.warnings == (
        "config.pbtxt:2: field batch_input is not followed by this version",
        "config.pbtxt:3: field optimization.priority is not followed by this version",
        "config.pbtxt:4: field optimization.cuda is not followed by this version",
        "config.pbtxt:7: field instance_group[0].host_policy is not followed by this version",
        "config.pbtxt:5: field model_metrics is not followed by this version",
    )


def test_json_of_either_spelling_takes_the_place_of_the_file():
    text = """{"backend": "onnxruntime", "maxBatchSize": "4",
        "input": [{"name": "x", "data_type": "TYPE_FP32", "dims": ["3"]}],
        "output": [{"name": "y", "dataType": 11, "dims": [-1]}],
        "dynamic_batching": {"priority_levels": 2, "default_priority_level": 1,
                             "priority_queue_policy": {"2": {"timeout_action": "DELAY"}}}}"""
    config = config_from_json(text, "m", "request").config
    assert (config.name, config.file, config.max_batch_size) == ("m", "request", 4)
    assert config.inputs == (TensorConfig(name="x", dtype="float32", dims=(3,)),)
    assert config.outputs == (TensorConfig(name="y", dtype="float32", dims=(-1,)),)
    assert config.dynamic_batching.priority_queue_policy[2].timeout_action == "DELAY"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected an object"),
        ("[]", "expected an object"),
        ("null", "expected an object"),
        ("{", "not a configuration in JSON"),
        ('{"nope": 1}', 'no field named "nope"'),
        ('{"input": 5}', "input"),
        ('{"input": [{"data_type": "TYPE_NO"}]}', "TYPE_NO"),
        ('{"max_batch_size": 3000000000}', "max_batch_size"),
        ('{"max_batch_size": %s}' % ("9" * 5000), "not a configuration in JSON"),
        ('{"dynamic_batching": {}, "sequence_batching": {}}', "oneof"),
        ('{"a":' * 100_000, "not a configuration in JSON"),
        ('{"name": "other"}', "field name: found 'other', expected its folder's name, 'm'"),
        ('{"max_batch_size": -1}', "field max_batch_size: found -1, expected 0 or more"),
        ('{"platform": "ensemble"}', "expected ensemble_scheduling beside it"),
    ],
)
def test_json_that_is_wrong_is_refused(text, message):
    with pytest.raises(ModelError) as caught:
        config_from_json(text, "m", "request")
    assert str(caught.value).startswith("request: ")
    assert message in str(caught.value)
    assert len(str(caught.value)) < 500


def test_message_is_read_by_the_inference_servers_own_client():
    config = parse_config('backend: "python" max_batch_size: 8 dynamic_batching { }' + TENSORS, model="a")
    message = model_config_pb2.ModelConfig.FromString(config_to_message(config.config).SerializeToString())
    assert (message.name, message.max_batch_size, message.backend) == ("a", 8, "python")
    assert list(message.output[0].reshape.shape) == [-1, 1]
    assert list(message.dynamic_batching.preferred_batch_size) == [8]


@settings(deadline=None, max_examples=60)
@given(engine_configs() | ensemble_configs())
def test_a_configuration_survives_its_text(config):
    text = text_format.MessageToString(message_of(tree_of(config)))
    reading = parse_config(text, model="m")
    assert reading.config == config
    assert reading.warnings == ()


@settings(deadline=None, max_examples=60)
@given(engine_configs() | ensemble_configs())
def test_the_answer_is_a_configuration_that_gives_the_same_answer(config):
    answer = config_to_json(config)
    reading = config_from_json(json.dumps(answer), "m", "request")
    again = reading.config
    assert reading.warnings == ()
    assert config_to_json(again) == answer
    assert (again.ensemble, again.warmups, again.is_decoupled) == (
        config.ensemble,
        config.warmups,
        config.is_decoupled,
    )


def test_an_empty_configuration_has_an_answer():
    assert config_to_json(ModelConfig())["max_batch_size"] == 0

"""What a config.pbtxt means, and how what is wrong in it is told."""

import pytest
from google.protobuf import descriptor_pb2
from tritonclient.grpc import model_config_pb2

from edgert.errors import ModelError
from edgert.models.config_message import message_class
from edgert.models.config_pbtxt import MAX_BYTES, parse_config, read_config
from edgert.models.model_config import (
    DynamicBatching,
    InstanceGroup,
    ModelConfig,
    SecondaryDevice,
    TensorConfig,
    VersionPolicy,
)
from tests.fakes.refused_config import refuse

DETECTOR = """\
# A detector as an Inference Server serves it.
name: "detector"
platform: "tensorrt_plan"
max_batch_size: 8
input [
  {
    name: "images"
    data_type: TYPE_FP16
    format: FORMAT_NCHW
    dims: [ 3, 640, 640 ]
  }
]
output [
  { name: "boxes" data_type: TYPE_FP32 dims: [ 100, 4 ] },
  { name: "classes", data_type: TYPE_INT32, dims: [ 100 ], label_filename: "labels.txt" },
  {
    name: "count"
    data_type: TYPE_INT32
    dims: [ 1 ]
    reshape: { shape: [ ] }
  }
]
version_policy: { specific { versions: [ 1, 3 ] } }
instance_group [
  {
    name: "gpu"
    count: 2
    kind: KIND_GPU
    gpus: [ 0 ]
    profile: [ "0" ]
    secondary_devices: [ { kind: KIND_NVDLA device_id: 1 } ]
  }
]
dynamic_batching {
  preferred_batch_size: [ 4, 8 ]
  max_queue_delay_microseconds: 500
  priority_levels: 3
  default_priority_level: 2
}
default_model_filename: "detector.plan"
cc_model_filenames [
  { key: "7.2" value: "xavier.plan" },
  { key: "8.7" value: "orin.plan" }
]
parameters: { key: "author" value: { string_value: "the line\\nteam" } }
parameters { key: "empty" value { } }
"""


def read(text):
    return parse_config(text).config


def test_whole_configuration_is_read():
    reading = parse_config(DETECTOR, "detector/config.pbtxt", "detector")
    assert reading.warnings == ()
    assert reading.config == ModelConfig(
        file="detector/config.pbtxt",
        name="detector",
        platform="tensorrt_plan",
        max_batch_size=8,
        inputs=(TensorConfig(name="images", dtype="float16", format="FORMAT_NCHW", dims=(3, 640, 640)),),
        outputs=(
            TensorConfig(name="boxes", dtype="float32", dims=(100, 4)),
            TensorConfig(name="classes", dtype="int32", dims=(100,), label_filename="labels.txt"),
            TensorConfig(name="count", dtype="int32", dims=(1,), reshape=()),
        ),
        version_policy=VersionPolicy("specific", versions=(1, 3)),
        instance_groups=(
            InstanceGroup(
                name="gpu",
                count=2,
                kind="KIND_GPU",
                gpus=(0,),
                profile=("0",),
                secondary_devices=(SecondaryDevice("KIND_NVDLA", 1),),
            ),
        ),
        dynamic_batching=DynamicBatching(
            preferred_batch_size=(4, 8),
            max_queue_delay_microseconds=500,
            priority_levels=3,
            default_priority_level=2,
        ),
        default_model_filename="detector.plan",
        cc_model_filenames={"7.2": "xavier.plan", "8.7": "orin.plan"},
        parameters={"author": "the line\nteam", "empty": ""},
    )


@pytest.mark.parametrize("text", ["", "\n", "# nothing but a comment", "\r\n \t"])
def test_empty_file_leaves_everything_to_the_engine(text):
    assert read(text) == ModelConfig()


def test_classifier_of_the_onnx_backend():
    config = read('backend: "onnxruntime"\nmax_batch_size: 0\ninput { name: "x" dims: -1 dims: 3 }')
    assert config.backend == "onnxruntime"
    assert config.max_batch_size == 0
    assert config.inputs == (TensorConfig(name="x", dims=(-1, 3)),)


def test_max_batch_size_of_zero_differs_from_none():
    assert read("max_batch_size: 0").max_batch_size == 0
    assert read("").max_batch_size is None


def test_text_tensors_of_variable_and_zero_size():
    config = read(
        """
        input { name: "words" data_type: TYPE_STRING dims: [ -1 ] allow_ragged_batch: true optional: true }
        input { name: "shape" data_type: TYPE_INT32 dims: [ 2 ] is_shape_tensor: true }
        output { name: "none" data_type: TYPE_BF16 dims: [ 0, 4 ] }
        """
    )
    words, shape = config.inputs
    assert (words.dtype, words.dims, words.allow_ragged_batch, words.optional) == (
        "object",
        (-1,),
        True,
        True,
    )
    assert shape.is_shape_tensor
    assert (config.outputs[0].dtype, config.outputs[0].dims) == ("bfloat16", (0, 4))


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("", VersionPolicy("latest", 1)),
        ("version_policy { }", VersionPolicy("latest", 1)),
        ("version_policy: { latest: {} }", VersionPolicy("latest", 1)),
        ("version_policy: { latest: { num_versions: 2 }}", VersionPolicy("latest", 2)),
        ("version_policy: { all { } }", VersionPolicy("all")),
        (
            "version_policy < specific < versions: 4 versions: 2 > >",
            VersionPolicy("specific", versions=(4, 2)),
        ),
    ],
)
def test_version_policies(text, policy):
    assert read(text).version_policy == policy


def test_dynamic_batching_with_nothing_in_it_is_still_on():
    assert read("dynamic_batching { }").dynamic_batching == DynamicBatching()
    assert read("").dynamic_batching is None


def test_instance_group_counts_one_by_default():
    assert read("instance_group [ { kind: KIND_CPU } ]").instance_groups == (InstanceGroup(kind="KIND_CPU"),)


def test_text_may_be_split_escaped_and_not_ascii():
    assert read(r"""name: "d\303\251t" 'ecteur' "\x20\u00e9\n" """).name == "détecteur é\n"
    assert read('name: "車"').name == "車"


def test_fields_that_are_not_known_are_named_with_line_and_path():
    text = """\
name: "x"
optimization {
  cuda { graphs: true }
  execution_accelerators { gpu_execution_accelerator: [ { name: "tensorrt" } ] }
}
input [ { name: "a" }, {
  name: "b"
  colour: [ RED, "green", 3 ]
} ]

[vendor.example/thing]: { 5: 1 }
max_batch_sise: 4, platform: "onnxruntime_onnx"
"""
    reading = parse_config(text)
    assert reading.warnings == (
        "config.pbtxt:8: field 'input[1].colour' is not known to edgert and is ignored",
        "config.pbtxt:11: field '[vendor.example/thing]' is not known to edgert and is ignored",
        "config.pbtxt:12: field 'max_batch_sise' is not known to edgert and is ignored; "
        "did you mean 'max_batch_size'?",
        "config.pbtxt:3: field optimization.cuda is not followed by this version",
        "config.pbtxt:4: field optimization.execution_accelerators is not followed by this version",
    )
    assert reading.config.platform == "onnxruntime_onnx"
    assert [tensor.name for tensor in reading.config.inputs] == ["a", "b"]


def test_scheduling_has_one_choice():
    assert (
        "2: field sequence_batching: stands beside another, expected only one of dynamic_batching,"
        in refuse("dynamic_batching { }\nsequence_batching { }")
    )


def test_warnings_are_bounded():
    warnings = parse_config("x: 1\n" * 500).warnings
    assert len(warnings) == 101
    assert warnings[-1] == "config.pbtxt: 400 more fields are not known"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            'max_batch_size: "4"',
            """1: field max_batch_size: found '"4"', expected a whole number of 32 bits""",
        ),
        ("max_batch_size: 4.5", "1: field max_batch_size: found '4.5', expected a whole number of 32 bits"),
        ("max_batch_size: 3000000000", "1: field max_batch_size: found '3000000000', expected a whole"),
        ("max_batch_size: [ 1 ]", "1: field max_batch_size: found '[', expected a whole number of 32 bits"),
        ("max_batch_size { }", "1: field max_batch_size: found '{', expected a whole number of 32 bits"),
        ("\n\nmax_batch_size: {}", "3: field max_batch_size: found '{', expected a whole number of 32 bits"),
        ("input: 5", "1: field input: found '5', expected a message in { }"),
        ('name: "a"\nplatform: tensorrt', "2: field platform: found 'tensorrt', expected text in quotes"),
        (
            "input {\n\n data_type: TYPE_FP31 }",
            "3: field input[0].data_type: found 'TYPE_FP31', expected one of",
        ),
        ("input { data_type: 99 }", "1: field input[0].data_type: found '99', expected one of TYPE_INVALID,"),
        ("input { optional: maybe }", "1: field input[0].optional: found 'maybe', expected true or false"),
        (
            "dynamic_batching { priority_levels: -1 }",
            "found '-1', expected a whole number of 64 bits, 0 or more",
        ),
        ('name: "\\xff"\nplatform: "x"', "1: field name: found bytes, expected text in UTF-8"),
        ("parameters { key: 3 }", "1: field parameters.key: found '3', expected text in quotes"),
        ("input [ {}, { dims: [ 1,\n x ] } ]", "2: field input[1].dims: found 'x', expected a whole number"),
    ],
)
def test_wrong_value_is_told_with_line_field_and_what_was_expected(text, message):
    assert message in refuse(text)
    assert refuse(text).startswith("config.pbtxt:")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('name "x"', """1: field name: found '"x"', expected ':'"""),
        ('name: "x', """1: field name: found '"x', expected a closing quote on the same line"""),
        ('name: "', """1: field name: found '"', expected a closing quote on the same line"""),
        (r'name: "C:\models"', r"""expected '\' only in escapes such as \n, \\ or \x41"""),
        (r'name: "\477"', r"""expected '\' only in escapes"""),
        ("name:", "1: field name: the file ends, expected text in quotes"),
        ("\ninput {\n", "2: field input[0]: the file ends, expected '}'"),
        ("input { > ", "1: field input[0]: found '>', expected a field's name"),
        ("}", "1: found '}', expected a field's name"),
        ('"name": 3', """1: found '"name"', expected a field's name"""),
        ("a" * 300 + ": 1", "expected a field's name"),
        ("[vendor", "1: the file ends, expected ']'"),
        ("input { dims: [ 1 2 ] }", "1: field input[0].dims: found '2', expected ',' or ']'"),
        ("input { dims: [ 1, ] }", "1: field input[0].dims: found ']', expected a whole number of 64 bits"),
        ("unknown: }", "1: field unknown: found '}', expected a value"),
        ('name: "a"\nname: "b"', "2: field name: given again, expected once"),
        ("max_batch_size: 0 max_batch_size: 0", "field max_batch_size: given again, expected once"),
        (
            "version_policy { all {}\n latest {} }",
            "2: field version_policy.latest: stands beside another, expected only one of latest, all,",
        ),
        ("x {" * 40, "expected at most 32 levels of nesting"),
        ("input { reshape { ", "1: field input[0].reshape: the file ends, expected '}'"),
    ],
)
def test_broken_text_is_told_with_line_and_what_was_expected(text, message):
    assert message in refuse(text)
    assert refuse(text).startswith("config.pbtxt:")


def test_name_must_be_that_of_the_folder():
    with pytest.raises(ModelError, match=r"2: field name: found 'a', expected its folder's name, 'b'"):
        parse_config('\nname: "a"', model="b")
    assert parse_config('platform: ""', model="b").config.name == "b"


def test_file_is_named_in_errors_and_kept_for_later_ones(tmp_path):
    path = tmp_path / "config.pbtxt"
    path.write_text("max_batch_size: 2")
    assert read_config(path).config.file == str(path)
    path.write_text("max_batch_size: two")
    with pytest.raises(ModelError) as caught:
        read_config(path)
    assert str(caught.value).startswith(f"{path}:1: field max_batch_size")


def test_file_with_a_byte_order_mark_and_windows_line_ends_is_read(tmp_path):
    path = tmp_path / "config.pbtxt"
    path.write_bytes(b'\xef\xbb\xbfname: "a" # c\r\nmax_batch_size: 2\r\n')
    assert read_config(path).config.max_batch_size == 2


def test_file_over_the_bound_is_refused_unread(tmp_path):
    path = tmp_path / "config.pbtxt"
    path.write_bytes(b"#" * (MAX_BYTES + 1))
    with pytest.raises(ModelError, match="expected at most 1048576"):
        read_config(path)


def test_bytes_are_those_of_the_inference_server():
    """Field numbers of its model_config.proto, written out by hand: (number << 3 | wire type), value."""
    message = message_class()()
    message.ParseFromString(
        b"\x0a\x01m"  # name = 1
        b"\x12\x01p"  # platform = 2
        b"\x1a\x02\x12\x00"  # version_policy = 3 { all = 2 }
        b"\x20\x08"  # max_batch_size = 4
        b"\x2a\x09\x0a\x01i\x10\x0b\x22\x02\x03\x05"  # input = 5 { name = 1, data_type = 2, dims = 4 }
        b"\x32\x0a\x0a\x01o\x1a\x01\x07\x22\x02l."  # output = 6 { name = 1, dims = 3, label_filename = 4 }
        b"\x3a\x04\x10\x02\x20\x01"  # instance_group = 7 { count = 2, kind = 4 }
        b"\x42\x01f"  # default_model_filename = 8
        b"\x4a\x08\x0a\x038.7\x12\x01g"  # cc_model_filenames = 9
        b"\x5a\x03\x10\xf4\x03"  # dynamic_batching = 11 { max_queue_delay_microseconds = 2 }
        b"\x72\x08\x0a\x01k\x12\x03\x0a\x01v"  # parameters = 14 { string_value = 1 }
        b"\x8a\x01\x01b"  # backend = 17
    )
    assert (message.name, message.platform, message.backend, message.max_batch_size) == ("m", "p", "b", 8)
    assert message.version_policy.WhichOneof("policy_choice") == "all"
    assert (message.input[0].data_type, list(message.input[0].dims)) == (11, [3, 5])
    assert (list(message.output[0].dims), message.output[0].label_filename) == ([7], "l.")
    assert (message.instance_group[0].count, message.instance_group[0].kind) == (2, 1)
    assert message.default_model_filename == "f"
    assert message.cc_model_filenames["8.7"] == "g"
    assert message.dynamic_batching.max_queue_delay_microseconds == 500
    assert message.parameters["k"].string_value == "v"
    assert not message.HasField("optimization")


def described(message):
    """Return the fields of a message with number, label and type; enums with their values."""
    proto = descriptor_pb2.DescriptorProto()
    message.CopyToProto(proto)
    fields = {field.name: (field.number, field.label, field.type) for field in proto.field}
    enums = {
        field.name: {value.name: value.number for value in field.enum_type.values}
        for field in message.fields
        if field.enum_type
    }
    choices = {choice.name: {field.name for field in choice.fields} for choice in message.oneofs}
    return fields, enums, choices


def hold(ours, theirs, seen):
    """Hold a message against the Inference Server's own, down to its last message."""
    seen.add(theirs.full_name)
    for own, expected in zip(described(ours), described(theirs), strict=True):
        assert {name: own[name] for name in expected} == expected
    for field in theirs.fields:
        if field.message_type and field.message_type.full_name not in seen:
            hold(ours.fields_by_name[field.name].message_type, field.message_type, seen)


def test_every_field_of_the_inference_server_is_known_with_its_number_and_type():
    seen = set()
    hold(message_class().DESCRIPTOR, model_config_pb2.ModelConfig.DESCRIPTOR, seen)
    assert len(seen) > 30

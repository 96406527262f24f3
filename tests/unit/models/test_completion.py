"""What the engine adds to a configuration, and where the two contradict each other."""

import msgspec
import pytest

from edgert.errors import ModelError
from edgert.models.completion import AUTO_MAX_BATCH_SIZE, complete
from edgert.models.config_pbtxt import parse_config
from edgert.models.model_config import TensorConfig
from edgert.models.tensor_spec import TensorSpec

IMAGE = TensorSpec("image", "float32", (-1, 3, 300, 300))
MASK = TensorSpec("mask", "bool", (-1, 300, 300))
BOXES = TensorSpec("boxes", "float32", (-1, 100, 4))
COUNT = TensorSpec("count", "int32", (-1,))
ONE_IMAGE = TensorSpec("image", "float32", (1, 3, 300, 300))
ONE_BOXES = TensorSpec("boxes", "float32", (1, -1, 4))


def of(text, inputs=(IMAGE,), outputs=(BOXES, COUNT), batches=True, runtime=""):
    return complete(parse_config(text, "m/config.pbtxt").config, inputs, outputs, batches, runtime)


def refuse(text, *args, **options):
    with pytest.raises(ModelError) as caught:
        of(text, *args, **options)
    return str(caught.value)


def test_empty_configuration_takes_everything_from_the_engine():
    config = of("", runtime="onnxruntime")
    assert config.inputs == (TensorConfig(name="image", dtype="float32", dims=(3, 300, 300)),)
    assert config.outputs == (
        TensorConfig(name="boxes", dtype="float32", dims=(100, 4)),
        TensorConfig(name="count", dtype="int32", dims=()),
    )
    assert config.max_batch_size == AUTO_MAX_BATCH_SIZE == 4
    assert (config.platform, config.backend) == ("onnxruntime_onnx", "onnxruntime")


def test_engine_without_batch_axis_is_described_whole():
    config = of("", [ONE_IMAGE], [ONE_BOXES], batches=False)
    assert config.max_batch_size == 0
    assert config.inputs[0].dims == (1, 3, 300, 300)
    assert config.outputs[0].dims == (1, -1, 4)


def test_completing_twice_changes_nothing():
    config = of('output { name: "count" }', runtime="tensorrt")
    assert complete(config, [IMAGE], [BOXES, COUNT], True, "tensorrt") == config


def test_complete_configuration_stays_as_it_is():
    text = """
    platform: "tensorrt_plan" max_batch_size: 16
    input { name: "image" data_type: TYPE_FP32 format: FORMAT_NCHW dims: [ 3, 300, 300 ] }
    output [ { name: "count" data_type: TYPE_INT32 dims: 1 reshape { } },
             { name: "boxes" data_type: TYPE_FP32 dims: [ 100, 4 ] label_filename: "l" } ]
    """
    assert of(text, runtime="tensorrt_lean") == parse_config(text, "m/config.pbtxt").config


def test_partial_tensor_keeps_what_it_states():
    config = of(
        'input { name: "image" format: FORMAT_NCHW } output { name: "boxes" label_filename: "l.txt" }'
    )
    assert config.inputs[0] == TensorConfig(
        name="image", dtype="float32", dims=(3, 300, 300), format="FORMAT_NCHW"
    )
    assert config.outputs[0].label_filename == "l.txt"


def test_every_input_is_listed_but_only_the_outputs_that_are_named():
    config = of('input { name: "mask" } output { name: "count" }', [IMAGE, MASK])
    assert [tensor.name for tensor in config.inputs] == ["mask", "image"]
    assert [tensor.name for tensor in config.outputs] == ["count"]


@pytest.mark.parametrize(
    ("engine", "stated", "completed"),
    [
        ((-1, 3, -1, -1), "[ 3, 320, 640 ]", (3, 320, 640)),
        ((-1, 3, 300, 300), "[ -1, -1, -1 ]", (3, 300, 300)),
        ((-1, 3, -1, 300), "[ 3, -1, -1 ]", (3, -1, 300)),
        ((-1, 0, 4), "[ 0, 4 ]", (0, 4)),
    ],
)
def test_variable_side_matches_any_and_the_known_one_is_kept(engine, stated, completed):
    spec = TensorSpec("image", "float32", engine)
    assert of(f'input {{ name: "image" dims: {stated} }}', [spec]).inputs[0].dims == completed


def test_reshape_is_what_must_match_the_engine():
    flat = TensorSpec("image", "float32", (-1, 12))
    config = of('input { name: "image" dims: [ 3, 4 ] reshape { shape: 12 } }', [flat])
    assert (config.inputs[0].dims, config.inputs[0].reshape) == ((3, 4), (12,))
    assert "field input[0].reshape.shape: found [4, 3], expected [12] as the engine's 'image' has" in refuse(
        'max_batch_size: 2 input { name: "image" dims: [ 3, 4 ] reshape { shape: [ 4, 3 ] } }', [flat]
    )


def test_shape_tensor_has_no_batch_axis():
    shape = TensorSpec("shape", "int32", (2,))
    config = of('input { name: "shape" dims: 2 is_shape_tensor: true } max_batch_size: 4', [IMAGE, shape])
    assert config.inputs[0].dims == (2,)


def test_max_batch_size_of_zero_means_whole_shapes():
    config = of('max_batch_size: 0 input { name: "image" dims: [ 1, 3, 300, 300 ] }')
    assert config.max_batch_size == 0
    assert config.inputs[0].dims == (1, 3, 300, 300)
    assert config.outputs[0].dims == (-1, 100, 4)


def test_dims_that_include_the_batch_axis_mean_max_batch_size_zero():
    assert of('input { name: "image" dims: [ 1, 3, 300, 300 ] }').max_batch_size == 0
    assert of('input { name: "image" dims: [ 3, 300, 300 ] }').max_batch_size == 4


def test_engine_for_exactly_one_frame_may_be_described_with_or_without_the_axis():
    short = of(
        'max_batch_size: 1 input { name: "image" dims: [ 3, 300, 300 ] }', [ONE_IMAGE], [ONE_BOXES], False
    )
    whole = of('input { name: "image" dims: [ 1, 3, 300, 300 ] }', [ONE_IMAGE], [ONE_BOXES], False)
    assert (short.max_batch_size, short.outputs[0].dims) == (1, (-1, 4))
    assert (whole.max_batch_size, whole.outputs[0].dims) == (0, (1, -1, 4))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            'input { name: "images" }',
            "field input[0].name: found 'images', expected one of the engine's: image",
        ),
        (
            'output { name: "boxes" } output { name: "scores" }',
            "field output[1].name: found 'scores', expected one of the engine's: count",
        ),
        (
            'input { name: "image" data_type: TYPE_UINT8 }',
            "field input[0].data_type: found uint8, expected float32 as the engine has",
        ),
        (
            'max_batch_size: 8 input { name: "image" dims: [ 3, 224, 224 ] }',
            "field input[0].dims: found [3, 224, 224], expected [3, 300, 300] as the engine's 'image' has "
            "(max_batch_size is 8)",
        ),
        (
            'max_batch_size: 8 input { name: "image" dims: [ 1, 3, 300, 300 ] }',
            "field input[0].dims: found [1, 3, 300, 300], expected [3, 300, 300]",
        ),
        (
            'max_batch_size: 4 output { name: "count" dims: 1 }',
            "field output[0].dims: found [1], expected []",
        ),
        (
            "dynamic_batching { preferred_batch_size: 8 }",
            "field dynamic_batching.preferred_batch_size: found 8, expected at most max_batch_size, 4",
        ),
    ],
)
def test_contradiction_names_file_field_and_both_sides(text, message):
    assert f"m/config.pbtxt: {message}" in refuse(text)


def test_batches_need_an_engine_that_can():
    message = refuse("max_batch_size: 8", [ONE_IMAGE], [ONE_BOXES], batches=False)
    assert message == (
        "m/config.pbtxt: field max_batch_size: found 8, expected 0: the engine has no variable batch axis "
        "(image [1, 3, 300, 300])"
    )


def test_stated_platform_is_kept():
    config = of('backend: "tensorrt"', runtime="onnxruntime")
    assert (config.platform, config.backend) == ("", "tensorrt")
    assert of("", runtime="noop").platform == ""


def test_configuration_given_is_not_changed():
    before = parse_config('input { name: "image" }').config
    copy = msgspec.convert(msgspec.to_builtins(before), type(before))
    complete(before, [IMAGE], [BOXES], True)
    assert before == copy


STATEFUL = """
    sequence_batching {
      control_input { name: "start" control { kind: CONTROL_SEQUENCE_START fp32_false_true: [ 0, 1 ] } }
      state { input_name: "kept" output_name: "next" data_type: TYPE_FP32 dims: [ 4 ] } }
"""
START = TensorSpec("start", "float32", (-1, 1))
KEPT = TensorSpec("kept", "float32", (-1, 4))
NEXT = TensorSpec("next", "float32", (-1, 4))


def test_controls_and_states_of_sequences_are_no_inputs_and_outputs_of_clients():
    config = of(STATEFUL, [IMAGE, START, KEPT], [COUNT, NEXT])
    assert [tensor.name for tensor in config.inputs] == ["image"]
    assert [tensor.name for tensor in config.outputs] == ["count"]


def test_state_that_is_listed_as_an_output_is_one():
    config = of(STATEFUL + 'output { name: "next" }', [IMAGE, START, KEPT], [COUNT, NEXT])
    assert [tensor.name for tensor in config.outputs] == ["next"]


@pytest.mark.parametrize(
    ("inputs", "outputs", "message"),
    [
        ([IMAGE, KEPT], [NEXT], "control_input[0].name: found 'start', expected one of the engine's: image,"),
        (
            [TensorSpec("start", "int32", (-1, 1)), KEPT],
            [NEXT],
            "control_input[0]: found float32, expected int32 as the engine has",
        ),
        ([START], [NEXT], "state[0].input_name: found 'kept', expected one of the engine's: start"),
        ([START, KEPT], [COUNT], "state[0].output_name: found 'next', expected one of the engine's: count"),
        (
            [START, KEPT],
            [TensorSpec("next", "float32", (-1, 5))],
            "state[0].dims: found [4], expected [5] as the engine's 'next' has",
        ),
    ],
)
def test_sequence_that_the_engine_does_not_fit_is_refused(inputs, outputs, message):
    assert message in refuse(STATEFUL, inputs, outputs)


def test_model_in_python_is_handed_controls_and_states_as_they_are_stated():
    assert of(STATEFUL, [IMAGE], [COUNT], runtime="python").backend == "python"

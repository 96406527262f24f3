"""Any text is read or refused with ModelError; any configuration that is written is read back."""

import string

from hypothesis import given, settings
from hypothesis import strategies as st

from edgert.errors import ModelError
from edgert.models.config_pbtxt import parse_config
from edgert.models.config_schema import MESSAGES
from edgert.models.config_values import ENUMS
from edgert.models.model_config import (
    DTYPE_OF_DATA_TYPE,
    DynamicBatching,
    InstanceGroup,
    ModelConfig,
    SecondaryDevice,
    TensorConfig,
    VersionPolicy,
)

SAMPLE = """name: "a" max_batch_size: 8
input [ { name: "x" data_type: TYPE_FP32 dims: [ 3, -1 ] reshape { shape: [ 3, 1, -1 ] } } ]
output { name: 'y' dims: 1 } version_policy: { latest < num_versions: 2 > }
cc_model_filenames { key: "8.7" value: "b" } optimization { cuda { graphs: true } } # end
"""
WORDS = sorted(
    {*MESSAGES["ModelConfig"], *MESSAGES["ModelInput"], *ENUMS["DataType"], "key", "value", "unknown"}
    | {"latest", "all", "1", "-1", "0x", "1e9", "99999999999999999999", "true", '"', '"a"', "'b'", '"\\q"'}
    | {"{", "}", "<", ">", "[", "]", ":", ",", ";", "#", "\n", " "}
)


def refusal(text):
    try:
        parse_config(text)
    except ModelError as error:
        return str(error)
    return ""


def accept_or_refuse(text):
    message = refusal(text)
    assert message == "" or message.startswith("config.pbtxt:")
    assert len(message) < 2_000


@settings(deadline=None)
@given(st.text())
def test_any_text_is_read_or_refused(text):
    accept_or_refuse(text)


@settings(deadline=None)
@given(st.lists(st.sampled_from(WORDS), max_size=30).map(" ".join))
def test_any_sequence_of_words_is_read_or_refused(text):
    accept_or_refuse(text)


@settings(deadline=None)
@given(st.integers(0, len(SAMPLE)), st.integers(0, len(SAMPLE)), st.sampled_from([*WORDS, ""]))
def test_any_damage_to_a_sound_file_is_read_or_refused(start, stop, inserted):
    accept_or_refuse(SAMPLE[:start] + inserted + SAMPLE[stop:])


@settings(deadline=None)
@given(st.sampled_from(sorted(MESSAGES["ModelConfig"])), st.sampled_from(WORDS), st.text(max_size=8))
def test_any_value_of_any_field_is_read_or_refused(name, word, text):
    accept_or_refuse(f"{name}: {word} {text}")
    accept_or_refuse(f"{name} {{ {word}: {text} }}")


# Configurations, and their text in the styles that people write it.

names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
sides = st.integers(-1, 2**40)
shapes = st.lists(sides, max_size=4).map(tuple)


@st.composite
def tensors(draw, **more):
    dims = draw(shapes)
    with_one = (*dims, 1)
    return TensorConfig(
        name=draw(names),
        dtype=draw(st.sampled_from(sorted(DTYPE_OF_DATA_TYPE.values()))),
        dims=dims,
        reshape=draw(st.sampled_from([None, dims, with_one])) if dims else None,
        is_shape_tensor=draw(st.booleans()),
        **{key: draw(value) for key, value in more.items()},
    )


inputs = tensors(
    format=st.sampled_from(ENUMS["Format"]), optional=st.booleans(), allow_ragged_batch=st.booleans()
)
outputs = tensors(label_filename=st.just("") | names)
policies = st.one_of(
    st.builds(VersionPolicy, st.just("latest"), st.integers(1, 2**32 - 1)),
    st.just(VersionPolicy("all")),
    st.builds(
        VersionPolicy,
        st.just("specific"),
        versions=st.lists(st.integers(1, 2**63 - 1), min_size=1, max_size=3).map(tuple),
    ),
)
devices = st.builds(SecondaryDevice, st.just("KIND_NVDLA"), st.integers(0, 3))
groups = st.builds(
    InstanceGroup,
    name=st.just("") | names,
    kind=st.sampled_from(["KIND_AUTO", "KIND_GPU"]),
    count=st.integers(1, 64),
    gpus=st.lists(st.integers(0, 7), max_size=3).map(tuple),
    profile=st.lists(names, max_size=2).map(tuple),
    secondary_devices=st.lists(devices, max_size=2).map(tuple),
)
batchings = st.builds(
    DynamicBatching,
    preferred_batch_size=st.lists(st.integers(1, 8), max_size=3).map(tuple),
    max_queue_delay_microseconds=st.integers(0, 2**64 - 1),
    preserve_ordering=st.booleans(),
    priority_levels=st.just(1),
    default_priority_level=st.just(1),
)
configs = st.builds(
    ModelConfig,
    name=st.just("") | names,
    platform=st.just("") | names,
    backend=st.just("") | names,
    max_batch_size=st.none() | st.integers(8, 2**31 - 1),
    inputs=st.lists(inputs, max_size=3, unique_by=lambda tensor: tensor.name).map(tuple),
    outputs=st.lists(outputs, max_size=3, unique_by=lambda tensor: tensor.name).map(tuple),
    version_policy=policies,
    instance_groups=st.lists(groups, max_size=2).map(tuple),
    dynamic_batching=st.none() | batchings,
    default_model_filename=st.just("") | names,
    cc_model_filenames=st.dictionaries(
        st.from_regex(r"[0-9]{1,2}\.[0-9]", fullmatch=True), names, max_size=3
    ),
    parameters=st.dictionaries(names, st.just("") | names, max_size=3),
)


class Style:
    """Draws how each thing is written: separators, brackets, quotes, escapes, list forms, noise."""

    def __init__(self, draw):
        self._draw = draw
        self.unknown = 0

    def pick(self, *choices):
        return self._draw(st.sampled_from(choices))

    def quoted(self, text):
        quote = self.pick('"', "'")
        plain = string.ascii_letters + string.digits + " ./-_" + self.pick("", "éü車")
        octal = "".join(c if c in plain else "".join(f"\\{b:03o}" for b in c.encode()) for c in text)
        return f"{quote}{octal}{quote}"

    def field(self, name, value):
        return f"{name}{self.pick(': ', ' :', ':')}{value}{self.end()}"

    def message(self, name, *fields):
        opening, closing = self.pick("{}", "<>")
        return f"{name}{self.pick('', ':', ' ')}{opening}{self.noise()}{''.join(fields)}{closing}{self.end()}"

    def numbers(self, name, values):
        if values and self.pick(True, False):
            return "".join(self.field(name, value) for value in values)
        return self.field(name, f"[{', '.join(map(str, values))}]")

    def messages(self, name, bodies):
        if self.pick(True, False):
            return "".join(self.message(name, *body) for body in bodies)
        items = ",".join(f"{{{self.noise()}{''.join(body)}}}" for body in bodies)
        return f"{name}{self.pick('', ':')} [{items}]{self.end()}"

    def end(self):
        return self.pick(" ", "\n", ", ", ";\n", " # a comment: { [ \" '\n", "\r\n")

    def noise(self):
        noise = self.pick("", "", "unknown: 1 ", 'unknown { a: "}" b [ { c: -1.5 } ] }\n', "[x.y/z.W] { } ")
        self.unknown += bool(noise)
        return noise


def tensor_text(style, tensor):
    data_types = {dtype: name for name, dtype in DTYPE_OF_DATA_TYPE.items()}
    yield style.field("name", style.quoted(tensor.name))
    yield style.field("data_type", data_types[tensor.dtype])
    yield style.numbers("dims", tensor.dims)
    if tensor.reshape is not None:
        yield style.message("reshape", style.numbers("shape", tensor.reshape))
    if tensor.format != "FORMAT_NONE":
        yield style.field("format", tensor.format)
    if tensor.label_filename:
        yield style.field("label_filename", style.quoted(tensor.label_filename))
    for flag in ("is_shape_tensor", "allow_ragged_batch", "optional"):
        if getattr(tensor, flag):
            yield style.field(flag, style.pick("true", "True", "t", "1"))


def policy_text(style, policy):
    inner = {
        "latest": style.field("num_versions", policy.count),
        "all": "",
        "specific": style.numbers("versions", policy.versions),
    }[policy.kind]
    return style.message("version_policy", style.message(policy.kind, inner))


def group_text(style, group):
    yield style.field("kind", group.kind)
    yield style.field("count", group.count)
    yield style.numbers("gpus", group.gpus)
    yield style.numbers("profile", [style.quoted(name) for name in group.profile])
    devices = [[style.field("device_id", device.device_id)] for device in group.secondary_devices]
    yield style.messages("secondary_devices", devices)
    yield style.field("name", style.quoted(group.name))


def batching_text(style, batching):
    yield style.numbers("preferred_batch_size", batching.preferred_batch_size)
    yield style.field("preserve_ordering", "true" if batching.preserve_ordering else "false")
    for name in ("max_queue_delay_microseconds", "priority_levels", "default_priority_level"):
        yield style.field(name, style.pick(str, hex)(getattr(batching, name)))


def config_text(style, config):
    for name in ("name", "platform", "backend", "default_model_filename"):
        if getattr(config, name):
            yield style.field(name, style.quoted(getattr(config, name)))
    if config.max_batch_size is not None:
        yield style.field("max_batch_size", config.max_batch_size)
    yield style.messages("input", [tensor_text(style, tensor) for tensor in config.inputs])
    yield style.messages("output", [tensor_text(style, tensor) for tensor in config.outputs])
    yield policy_text(style, config.version_policy)
    yield style.messages("instance_group", [group_text(style, group) for group in config.instance_groups])
    if config.dynamic_batching:
        yield style.message("dynamic_batching", *batching_text(style, config.dynamic_batching))
    for key, value in config.cc_model_filenames.items():
        fields = [style.field("key", style.quoted(key)), style.field("value", style.quoted(value))]
        yield style.message("cc_model_filenames", *fields)
    for key, value in config.parameters.items():
        inner = style.message("value", style.field("string_value", style.quoted(value)))
        yield style.message("parameters", style.field("key", style.quoted(key)), inner)


@settings(deadline=None)
@given(configs, st.data())
def test_a_written_configuration_is_read_back(config, data):
    style = Style(data.draw)
    text = style.noise() + "".join(config_text(style, config))
    reading = parse_config(text)
    assert reading.config == config
    assert len(reading.warnings) == style.unknown

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from msgspec import Meta

from edgert.config import Document, Options, merge
from edgert.errors import ConfigError


class Tls(Options, frozen=True, kw_only=True):
    ca_file: str | None = None
    key_file: str | None = None

    def __post_init__(self):
        if self.key_file and not self.ca_file:
            raise ValueError("key_file needs a ca_file")


class Mqtt(Options, frozen=True, kw_only=True, tag_field="type", tag="mqtt"):
    host: str = "localhost"
    qos: Literal[0, 1, 2] = 0
    tls: Tls | None = None


class Lines(Options, frozen=True, kw_only=True, tag_field="type", tag="lines"):
    path: str | None = None


class Source(Options, frozen=True, kw_only=True):
    uri: str
    models: list[str] = []
    slots: Annotated[int, Meta(ge=2, le=64)] = 6
    policy: Literal["latest", "every"] | None = None


class Prepare(Options, frozen=True, kw_only=True):
    mean: float | Annotated[tuple[float, ...], Meta(min_length=1)] = 0.0
    size: tuple[int, int] | None = None


class File(Options, frozen=True, kw_only=True):
    node: str = "porch"
    sources: dict[str, Source] = {}
    sinks: Annotated[dict[str, Mqtt | Lines], Meta(max_length=3)] = {}
    stages: list[Prepare] = []
    extras: dict[str, dict[str, Any]] = {}
    prepare: Prepare = Prepare()


@pytest.fixture
def load(tmp_path):
    def load(text):
        path = tmp_path / "door.toml"
        path.write_text(text)
        return Document.load(path)

    return load


@pytest.fixture
def complaint(load):
    """Return what is said of a wrong file, after the file's name."""

    def complaint(text):
        document = load(text)
        with pytest.raises(ConfigError) as caught:
            document.as_type(File)
        path, _, said = str(caught.value).partition(": ")
        assert path == str(document.path)
        return said

    return complaint


def test_reads_a_file_into_options(load):
    options = load('node = "gate"\n[sources.door]\nuri = "v4l2:/dev/video0"\nmodels = ["coco"]').as_type(File)
    assert options.node == "gate"
    assert options.sources == {"door": Source(uri="v4l2:/dev/video0", models=["coco"])}


def test_an_empty_file_has_the_defaults(load):
    assert load("").as_type(File) == File()


# What an error says


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("node = 5", "node = 5: expected `str`, got `int`"),
        ("[sources.door]\nuri = 3", "sources.door.uri = 3: expected `str`, got `int`"),
        ("[sources.door]\nuri = 'x'\nslots = 1", "sources.door.slots = 1: expected `int` >= 2"),
        (
            "[sources.door]\nuri = 'x'\nmodels = ['a', 1]",
            "sources.door.models[1] = 1: expected `str`, got `int`",
        ),
        ("[sources]\ndoor = 1", "sources.door = 1: expected `object`, got `int`"),
        ("[prepare]\nmean = [1, 'a']", "prepare.mean[1] = 'a': expected `float`, got `str`"),
        ("[prepare]\nmean = []", "prepare.mean = []: expected `array` of length >= 1"),
        ("[prepare]\nsize = [1, 'a']", "prepare.size[1] = 'a': expected `int`, got `str`"),
        ("stages = [{}, {mean = 'a'}]", "stages[1].mean = 'a': expected `float | array`, got `str`"),
        ("[sinks.out]\ntype = 'mqtt'\nhost = 5", "sinks.out.host = 5: expected `str`, got `int`"),
        (
            "[sinks.out]\ntype = 'mqtt'\n[sinks.out.tls]\nca_file = 4",
            "sinks.out.tls.ca_file = 4: expected `str | null`, got `int`",
        ),
    ],
)
def test_names_key_value_and_what_was_expected(complaint, text, said):
    assert complaint(text) == said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[sinks.out]\ntype = 'mqtt'\nqos = 7", "sinks.out.qos = 7: expected one of 0, 1, 2"),
        ("[sinks.out]\ntype = 'udp'", "sinks.out.type = 'udp': expected one of 'mqtt', 'lines'"),
        (
            "[sources.door]\nuri = 'x'\npolicy = 'some'",
            "sources.door.policy = 'some': expected one of 'latest', 'every'",
        ),
    ],
)
def test_names_the_values_that_there_are(complaint, text, said):
    assert complaint(text) == said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nodes = 'a'", "the file: unknown key 'nodes'; did you mean 'node'?"),
        ("[sources.door]\nurl = 'x'", "sources.door: unknown key 'url'; did you mean 'uri'?"),
        (
            "[sinks.out]\ntype = 'lines'\n[sinks.there]\ntype = 'mqtt'\nhots = 'x'",
            "sinks.there: unknown key 'hots'; did you mean 'host'?",
        ),
        (
            "[sinks.out]\ntype = 'mqtt'\n[sinks.out.tls]\nca_fle = 'x'",
            "sinks.out.tls: unknown key 'ca_fle'; did you mean 'ca_file'?",
        ),
        ("[prepare]\nzzz = 1", "prepare: unknown key 'zzz'; known keys: mean, size"),
        ("stages = [{zzz = 1}]", "stages[0]: unknown key 'zzz'; known keys: mean, size"),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest_known_one(complaint, text, said):
    assert complaint(text) == said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[sources.door]", "sources.door: key 'uri' is missing"),
        ("[sinks.out]\nhost = 'x'", "sinks.out: key 'type' is missing"),
    ],
)
def test_a_missing_key_is_named(complaint, text, said):
    assert complaint(text) == said


def test_what_an_option_group_itself_refuses_is_said_without_its_other_values(complaint):
    text = "[sinks.out]\ntype = 'mqtt'\n[sinks.out.tls]\nkey_file = 'secret.pem'"
    assert complaint(text) == "sinks.out.tls: key_file needs a ca_file"


def test_names_the_one_table_of_several_that_is_wrong(complaint):
    text = "[sources.a]\nuri = 'x'\n[sources.b]\nuri = 'x'\nslots = 99\n[sources.c]\nuri = 'x'"
    assert complaint(text) == "sources.b.slots = 99: expected `int` <= 64"


# Files


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"node = ", "not valid TOML: Invalid value"),
        (b"a = 1\na = 2", "not valid TOML: Cannot overwrite"),
        (b"\xff", "cannot be read"),
    ],
)
def test_a_file_that_is_not_toml_is_named(tmp_path, content, said):
    path = tmp_path / "door.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        Document.load(path)
    assert str(caught.value).startswith(f"{path}: {said}")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"absent\.toml: no such file$"):
        Document.load(tmp_path / "absent.toml")


def test_a_folder_in_place_of_a_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        Document.load(tmp_path)


def test_a_section_is_read_alone(load):
    document = load("broken = 1\n[prepare]\nmean = 2.5")
    assert document.section("prepare", Prepare) == Prepare(mean=2.5)
    assert document.section("absent", Prepare) == Prepare()


def test_an_error_in_a_section_names_it(load):
    with pytest.raises(ConfigError, match=r"door\.toml: prepare\.mean = 'a': expected"):
        load("[prepare]\nmean = 'a'").section("prepare", Prepare)
    with pytest.raises(ConfigError, match=r"door\.toml: prepare = 5: expected `object`"):
        load("prepare = 5").section("prepare", Prepare)


def test_paths_are_relative_to_the_file(load, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    document = load("")
    assert document.resolve("models/a") == tmp_path / "models/a"
    assert document.resolve("/srv/models") == Path("/srv/models")
    assert document.resolve("~/models") == Path("/home/someone/models")


def test_the_home_of_nobody_is_a_configuration_error(load):
    with pytest.raises(ConfigError, match=r"door\.toml: path '~nobody-of-that-name/x'"):
        load("").resolve("~nobody-of-that-name/x")


# --set


@pytest.mark.parametrize(
    ("setting", "tree"),
    [
        ("node=porch", {"node": "porch"}),
        ('node="a b"', {"node": "a b"}),
        ("a.b.c=1", {"a": {"b": {"c": 1}}}),
        (" a . b = true ", {"a": {"b": True}}),
        ("x=[1, 2]", {"x": [1, 2]}),
        ("x={y = 1.5}", {"x": {"y": 1.5}}),
        ("uri=rtsp://u@h:554/s?a=b", {"uri": "rtsp://u@h:554/s?a=b"}),
        ("uri=v4l2:/dev/video2", {"uri": "v4l2:/dev/video2"}),
        ("x=", {"x": ""}),
    ],
)
def test_a_setting_is_toml_or_else_a_bare_string(setting, tree):
    assert Document(Path("door.toml"), {}).override([setting]).tree == tree


def test_settings_are_laid_on_the_file_in_order_and_leave_it_as_it_was(load):
    document = load("[sources.door]\nuri = 'a'\nslots = 3")
    changed = document.override(["sources.door.uri=b", "sources.yard.uri=c", "sources.door.uri=d"])
    assert changed.tree["sources"] == {"door": {"uri": "d", "slots": 3}, "yard": {"uri": "c"}}
    assert document.tree["sources"] == {"door": {"uri": "a", "slots": 3}}


@pytest.mark.parametrize("setting", ["node", "=5", "a..b=1", ".a=1", ""])
def test_a_setting_without_key_or_value_is_refused(setting):
    with pytest.raises(ConfigError, match="expected KEY=VALUE"):
        Document(Path("door.toml"), {}).override([setting])


def test_a_setting_below_a_value_is_refused(load):
    with pytest.raises(ConfigError, match=r"--set node\.a=1: node is a value, not a table"):
        load("node = 'x'").override(["node.a=1"])


# Merging


def test_merging_goes_table_by_table_and_changes_neither_side():
    base = {"a": {"x": 1, "y": 2}, "b": 1, "c": {"z": 1}}
    over = {"a": {"y": 3}, "b": {"n": 1}, "c": 5}
    assert merge(base, over) == {"a": {"x": 1, "y": 3}, "b": {"n": 1}, "c": 5}
    assert base == {"a": {"x": 1, "y": 2}, "b": 1, "c": {"z": 1}}
    assert over == {"a": {"y": 3}, "b": {"n": 1}, "c": 5}


def test_lists_are_replaced_not_joined():
    assert merge({"a": [1, 2]}, {"a": [3]}) == {"a": [3]}


def test_options_cannot_be_changed_after_they_were_read():
    with pytest.raises(AttributeError):
        Source(uri="x").uri = "y"


def test_reading_configuration_imports_nothing_heavy():
    code = "import sys, edgert.config; print(sorted({'numpy', 'cv2', 'onnxruntime'} & {*sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

"""What Home Assistant is told about a node."""

from __future__ import annotations

import contextlib
import json
import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgert.publish import topics
from edgert.publish.home_assistant import (
    HomeAssistantOptions,
    components,
    counted_labels,
    device_id,
    discovery,
    escaped,
    removal,
)
from edgert.publish.payload import ResultEncoder

PREFIX = "edgert/porch/"
SOURCES = {"door": ["detector"], "yard": ["detector", "birds"]}
LABELS = {"detector": ["person", "cat"], "birds": ["robin"]}
OPTIONS = HomeAssistantOptions()
ODD_NAMES = ["front door", "Tür", 'say "hi"', "{{ x }}", "a_b", "a-b", "'", "\\", "日本", "%}"]


def announced(sources=SOURCES, labels=LABELS, options=OPTIONS, node="porch", prefix=PREFIX):
    topic, payload = discovery(node, prefix, sources, labels, options, "1.2.3")
    return topic, json.loads(payload)


def entities(**fields):
    return announced(**fields)[1]["components"]


def by_name(platform, **fields):
    return {e["name"]: e for e in entities(**fields).values() if e["platform"] == platform}


@pytest.fixture
def render():
    """Return a function that renders a template as Home Assistant does; `value_json` is there for JSON."""
    jinja2 = pytest.importorskip("jinja2.sandbox", reason="needs Jinja: pip install jinja2")
    environment = jinja2.ImmutableSandboxedEnvironment()

    def rendered(template, payload):
        values = {"value": payload if isinstance(payload, str) else payload.decode()}
        with contextlib.suppress(ValueError):
            values["value_json"] = json.loads(payload)
        return environment.from_string(template).render(values)

    return rendered


def test_the_device_is_named_after_the_node():
    topic, config = announced()
    assert topic == "homeassistant/device/edgert_porch/config"
    assert config["device"] == {
        "identifiers": ["edgert_porch"],
        "name": "porch",
        "model": "edgert",
        "sw_version": "1.2.3",
    }
    assert config["origin"] == {"name": "edgert", "sw_version": "1.2.3"}
    assert [place["topic"] for place in config["availability"]] == ["edgert/porch/state"]


def test_every_entity_has_a_platform_and_an_id_of_its_own():
    config = announced()[1]
    ids = [entity["unique_id"] for entity in config["components"].values()]
    assert len(set(ids)) == len(ids) == 1 + 2 * 2 + 2 + 3
    assert {entity["platform"] for entity in config["components"].values()} == {
        "sensor",
        "binary_sensor",
        "image",
    }


def test_a_count_reads_the_results_of_its_source_and_model():
    counts = by_name("sensor")
    assert set(counts) == {
        "State",
        "door person",
        "door cat",
        "yard detector person",
        "yard detector cat",
        "yard birds robin",
    }
    robin = counts["yard birds robin"]
    assert robin["state_topic"] == "edgert/porch/source/yard/result/birds"
    assert robin["state_class"] == "measurement"
    assert robin["availability_mode"] == "all"
    assert [place["topic"] for place in robin["availability"]] == [
        "edgert/porch/state",
        "edgert/porch/source/yard/state",
    ]


def test_the_nodes_state_shows_when_the_node_is_away():
    state = by_name("sensor")["State"]
    assert (state["state_topic"], state["availability"]) == ("edgert/porch/state", [])
    assert {"init", "ready", "draining", "disconnected", "lost"} == set(state["options"])


def test_a_source_has_a_connectivity_and_a_picture():
    assert by_name("binary_sensor")["door"]["state_topic"] == "edgert/porch/source/door/state"
    picture = by_name("image")["door"]
    assert picture["image_topic"] == PREFIX + topics.snapshot("door") == "edgert/porch/source/door/snapshot"
    assert picture["content_type"] == "image/jpeg"


def test_without_a_camera_there_are_no_pictures():
    assert by_name("image", options=HomeAssistantOptions(camera=False)) == {}


def test_an_empty_payload_on_the_same_topic_removes_the_device():
    assert removal("porch", PREFIX, OPTIONS) == (announced()[0], b"")


def test_the_prefix_is_the_operators():
    options = HomeAssistantOptions(discovery_prefix="ha/discovery")
    assert announced(options=options)[0] == "ha/discovery/device/edgert_porch/config"


@pytest.mark.parametrize("name", ODD_NAMES)
def test_ids_are_legal_for_any_name(name):
    prefix = topics.prefix("edgert", name)
    topic, config = announced({name: [name]}, {name: [name]}, node=name, prefix=prefix)
    assert re.fullmatch(r"homeassistant/device/[a-zA-Z0-9_-]+/config", topic)
    for key, entity in config["components"].items():
        assert re.fullmatch(r"[a-zA-Z0-9_-]+", key)
        assert re.fullmatch(r"[a-zA-Z0-9_-]+", entity["unique_id"])


def test_names_that_join_to_the_same_text_get_different_ids():
    one = entities(sources={"a": ["b_c"]}, labels={"b_c": ["d"]})
    other = entities(sources={"a_b": ["c"]}, labels={"c": ["d"]})
    assert one.keys() & other.keys() == {"state"}


@given(st.lists(st.text(min_size=1), min_size=1, max_size=3), st.lists(st.text(min_size=1), min_size=1))
def test_ids_differ_where_names_do(names, others):
    joined, other = ("_-".join(map(escaped, some)) for some in (names, others))
    assert (joined == other) == (names == others)


def test_another_topic_root_is_another_device():
    ids = {device_id("porch", topics.prefix(root, "porch")) for root in ("edgert", "site", "edgert/a", "a")}
    assert len(ids) == 4
    assert device_id("porch", "site/porch/") == "edgert_site_-porch"


def test_a_model_with_many_labels_gets_sensors_for_the_first():
    labels = [f"label {i}" for i in range(80)]
    assert counted_labels(labels, OPTIONS) == labels[:20]
    assert counted_labels(labels, HomeAssistantOptions(max_labels=3)) == labels[:3]


def test_labels_that_are_named_get_a_sensor_where_a_model_has_them():
    options = HomeAssistantOptions(labels=("cat", "dog", "cat"), max_labels=1)
    assert counted_labels(["person", "dog", "cat"], options) == ["cat", "dog"]
    assert counted_labels(["robin"], options) == []
    assert counted_labels([], HomeAssistantOptions(labels=("0",))) == ["0"]  # an index stands for its label


def test_a_label_of_two_classes_gets_one_sensor():
    assert counted_labels(["person", "person", "cat"], OPTIONS) == ["person", "cat"]


@given(st.text())
def test_a_label_cannot_end_its_place_in_a_template(label):
    found = components("n", "edgert/n/", {"s": ["m"]}, {"m": [label]}, OPTIONS)
    template = next(e["value_template"] for k, e in found.items() if k.startswith("count"))
    literal = re.search(r"'equalto', '([a-zA-Z0-9 \\]*)'\) \| list", template)
    assert literal is not None
    assert re.sub(r"\\U([0-9a-f]{8})", lambda code: chr(int(code[1], 16)), literal[1]) == label


@pytest.mark.parametrize("label", ["person", *ODD_NAMES, "", "line\nbreak", "a'b\"c{{d}}{%e%}\\n", "😀"])
def test_a_count_is_of_its_label(label, render, make_result):
    template = next(
        e["value_template"]
        for k, e in components("n", "edgert/n/", {"s": ["m"]}, {"m": [label]}, OPTIONS).items()
        if k.startswith("count")
    )
    result = make_result()
    result.output.labels = [label]
    assert render(template, ResultEncoder("n", "b").encode(result)) == "1"
    result.output.labels = [label + "x"]
    assert render(template, ResultEncoder("n", "b").encode(result)) == "0"


@pytest.mark.parametrize(
    ("payload", "shown"),
    [
        ('{"detections": []}', "0"),
        ('{"detections": [{"label": "cat"}, {"label": "dog"}, {"label": "cat"}]}', "2"),
        ('{"historical": false, "detections": [{"label": "cat"}]}', "1"),
        ('{"historical": true, "detections": [{"label": "cat"}]}', ""),
        ('{"classes": [{"label": "cat"}]}', ""),
        ("[1]", ""),
        ("7", ""),
        ("no JSON", ""),
        ("", ""),
    ],
)
def test_a_count_stays_as_it_is_where_a_result_says_nothing_new(payload, shown, render):
    template = by_name("sensor")["door cat"]["value_template"]
    assert render(template, payload) == shown


@pytest.mark.parametrize(
    ("state", "shown"), [("ready", "online"), *((s, "offline") for s in ("init", "draining", "lost", ""))]
)
def test_only_a_node_that_is_ready_is_available(state, shown, render):
    assert render(announced()[1]["availability"][0]["value_template"], state) == shown


@pytest.mark.parametrize(
    ("payload", "shown"),
    [
        ('{"state": "online", "reason": ""}', ("ON", "online", {"status": "online", "reason": ""})),
        (
            '{"state": "stalled", "reason": "a \\"b\\" <c>"}',
            ("OFF", "offline", {"status": "stalled", "reason": 'a "b" <c>'}),
        ),
        ('{"state": "offline"}', ("OFF", "offline", {"status": "offline", "reason": ""})),
        ("", ("OFF", "offline", {})),
        ("[]", ("OFF", "offline", {})),
    ],
)
def test_a_source_is_on_while_it_is_online(payload, shown, render):
    connectivity, count = by_name("binary_sensor")["door"], by_name("sensor")["door cat"]
    templates = (connectivity["value_template"], count["availability"][1]["value_template"])
    attributes = json.loads(render(connectivity["json_attributes_template"], payload))
    assert (*(render(template, payload) for template in templates), attributes) == shown


@pytest.mark.parametrize(
    ("table", "fault"),
    [
        ({"discovery_prefix": "a/+"}, "discovery_prefix: topic root '\\+' contains '\\+'"),
        ({"discovery_prefix": ""}, "discovery_prefix: .* is empty"),
        ({"status_topic": "a/#"}, "status_topic: .* contains '#'"),
        ({"max_labels": 0}, ">= 1"),
        ({"snapshot_s": 0}, "> 0"),
        ({"snapshot_quality": 101}, "<= 100"),
        ({"snapshot_max_side_px": 1}, ">= 16"),
        ({"prefix": "x"}, "unknown field"),
    ],
    ids=str,
)
def test_refused_tables(table, fault):
    with pytest.raises(msgspec.ValidationError, match=fault):
        msgspec.convert(table, HomeAssistantOptions)


def test_an_empty_table_is_enough():
    options = msgspec.convert({"labels": ["cat"]}, HomeAssistantOptions)
    assert options.labels == ("cat",)
    assert msgspec.convert({}, HomeAssistantOptions) == OPTIONS

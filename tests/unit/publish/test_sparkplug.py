"""Sparkplug B: what a node says from its birth to its death, as a host hears it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edgert.config import Document
from edgert.errors import ConfigError
from edgert.frames.result import Classes, Detections, Tensors
from edgert.publish.options import SparkplugOptions
from edgert.publish.payload import ResultEncoder
from edgert.publish.session import Received
from edgert.publish.sparkplug import REBIRTH, SparkplugDialect
from tests.fakes.clock import FakeClock
from tests.fakes.sparkplug_host import Host, decode, encode_command

NCMD = "spBv1.0/plant/NCMD/n1"
NOW_MS = 1_700_000_000_000
LABELS = ["person", "car"]


def kinds(messages):
    return [message.topic.split("/")[2] for message in messages]


def found(*indices, labels=LABELS, scores=None):
    scores = np.linspace(0.75, 0.5, len(indices)) if scores is None else np.array(scores)
    return Detections(np.zeros((len(indices), 4), "f4"), scores.astype("f4"), np.array(indices, int), labels)


class Node:
    """A dialect whose messages a host hears at once, in order."""

    def __init__(self, **names):
        names = {"group": "plant", "node": "n1", **names}
        clock = FakeClock(NOW_MS * 1_000_000)
        self.dialect = SparkplugDialect(
            **names, encoder=ResultEncoder("n1", "b00t"), properties={"edgert": "1.2"}, utc_ns=clock
        )
        self.host = Host()

    def connect(self):
        self.will = self.dialect.will()
        return self.say(self.dialect.greeting())

    def publish(self, result, *, historical=False, qos=1):
        return self.say(self.dialect.result(result, historical=historical, qos=qos))

    def command(self, payload, **fields):
        return self.say(self.dialect.received(Received(NCMD, payload, **fields)))

    def say(self, messages):
        for message in messages:
            self.host.take(message.topic, message.payload)
        return messages


@pytest.fixture
def node():
    node = Node()
    node.connect()
    return node


def test_the_will_is_the_death_of_the_birth_that_follows():
    node = Node()
    (birth,) = node.connect()
    will = node.will
    assert (will.topic, will.qos, will.is_retained) == ("spBv1.0/plant/NDEATH/n1", 1, False)
    assert (birth.topic, birth.qos, birth.is_retained) == ("spBv1.0/plant/NBIRTH/n1", 0, False)
    bdseq = {"name": "bdSeq", "timestamp": NOW_MS, "datatype": 4, "field": 11, "value": 0}
    assert decode(will.payload) == {"timestamp": NOW_MS, "metrics": {"bdSeq": bdseq}}
    assert decode(birth.payload) == {
        "timestamp": NOW_MS,
        "seq": 0,
        "metrics": {
            "bdSeq": bdseq,
            REBIRTH: {"name": REBIRTH, "timestamp": NOW_MS, "datatype": 11, "field": 14, "value": False},
            "Properties/edgert": {
                "name": "Properties/edgert",
                "timestamp": NOW_MS,
                "datatype": 12,
                "field": 15,
                "value": "1.2",
            },
        },
    }


def test_bdseq_counts_connections_and_begins_again_after_255():
    node = Node()
    for attempt in range(258):
        node.connect()
        assert node.host.bdseq == attempt % 256
        assert decode(node.will.payload)["metrics"]["bdSeq"]["value"] == attempt % 256


def test_an_attempt_that_was_refused_has_its_number_too():
    node = Node()
    node.dialect.will()
    node.connect()
    assert node.host.bdseq == 1


def test_the_farewell_ends_this_connection_and_the_will_of_one_before_does_not(node):
    old_will = node.will
    node.connect()
    node.say([old_will])
    assert node.host.bdseq == 1
    farewell = node.dialect.farewell()
    node.say([farewell])
    assert node.host.bdseq is None
    assert (farewell.topic, farewell.qos, farewell.is_retained) == ("spBv1.0/plant/NDEATH/n1", 1, False)


def test_a_result_follows_the_birth_of_its_source(node, make_result):
    result = make_result(5, output=found(0, 0, 1), captured_utc_ns=NOW_MS * 1_000_000 + 999_999)
    birth, data = node.publish(result)
    assert (birth.topic, birth.qos, birth.ticket) == ("spBv1.0/plant/DBIRTH/n1/porch", 0, None)
    assert (data.topic, data.qos, data.is_retained) == ("spBv1.0/plant/DDATA/n1/porch", 1, False)
    assert not birth.is_retained
    assert {metric["timestamp"] for metric in decode(data.payload)["metrics"].values()} == {NOW_MS}
    said = node.host.values["porch"]
    whole = json.loads(said.pop("detector/result"))
    assert said == {
        "detector/count": 3,
        "detector/score": 0.75,
        "detector/labels/person": 2,
        "detector/labels/car": 1,
    }
    assert (whole["boot"], whole["source"], whole["seq"], whole["model"]) == ("b00t", "porch", 5, "detector")
    assert [row["label"] for row in whole["detections"]] == ["person", "person", "car"]


def test_later_results_are_data_with_what_has_changed(node, make_result):
    node.publish(make_result(0, output=found(0)))
    (data,) = node.publish(make_result(1, output=found(1)))
    assert decode(data.payload)["metrics"].keys() == {
        "detector/labels/person",
        "detector/labels/car",
        "detector/result",
    }
    assert node.host.values["porch"]["detector/labels/person"] == 0
    assert node.host.values["porch"]["detector/labels/car"] == 1
    assert node.host.values["porch"]["detector/count"] == 1


def test_no_detections_have_no_score(node, make_result):
    node.publish(make_result(output=found(0)))
    node.publish(make_result(1, output=found()))
    assert node.host.values["porch"]["detector/count"] == 0
    assert node.host.values["porch"]["detector/score"] is None


def test_what_was_born_without_a_value_is_not_said_to_have_none(node, make_result):
    _, data = node.publish(make_result(output=found()))
    assert "detector/score" not in decode(data.payload)["metrics"]
    assert kinds(node.publish(make_result(1, output=found()))) == ["DDATA"]


def test_a_score_that_is_not_finite_is_null(node, make_result):
    node.publish(make_result(output=found(0)))
    (data,) = node.publish(make_result(1, output=found(0, scores=[np.nan])))
    assert decode(data.payload)["metrics"]["detector/score"]["is_null"] is True


def test_a_label_that_was_not_announced_is_announced_first(node, make_result):
    node.publish(make_result(0, output=found(0, labels=["person"])))
    assert kinds(node.publish(make_result(1, output=found(7, labels=["person"])))) == ["DBIRTH", "DDATA"]
    assert kinds(node.publish(make_result(2, output=found(0, 7, labels=["person"])))) == ["DDATA"]
    assert node.host.values["porch"]["detector/labels/7"] == 1


def test_a_label_that_a_new_version_has_not_is_counted_no_more(node, make_result):
    node.publish(make_result(0, output=found(0, labels=["person"])))
    node.publish(make_result(1, output=found(0, labels=["cat"]), version=2))
    values = node.host.values["porch"]
    assert (values["detector/labels/person"], values["detector/labels/cat"]) == (0, 1)


def test_a_new_model_is_announced_with_what_the_others_said_last(node, make_result):
    node.publish(make_result(0, output=found(0, 0), captured_utc_ns=9_000_000))
    birth, _ = node.publish(make_result(0, output=found(1), model="other", captured_utc_ns=5_000_000))
    metrics = decode(birth.payload)["metrics"]
    assert (metrics["detector/count"]["value"], metrics["detector/count"]["timestamp"]) == (2, 9)
    assert metrics["other/count"]["is_null"] is True
    assert metrics["other/count"]["timestamp"] == NOW_MS


def test_the_best_class(node, make_result):
    output = Classes(np.array([0.5, 0.25], "f4"), np.array([1, 0]), LABELS)
    node.publish(make_result(output=output))
    said = node.host.values["porch"]
    assert json.loads(said.pop("detector/result"))["classes"][1]["label"] == "person"
    assert said == {"detector/label": "car", "detector/score": 0.5}


def test_no_class_at_all(node, make_result):
    node.publish(make_result(output=Classes(np.array([], "f4"), np.array([], int), LABELS)))
    assert node.host.values["porch"]["detector/label"] is None


def test_tensors_are_in_the_whole_result_only(node, make_result):
    node.publish(make_result(output=Tensors({"out": np.array([1, 2])})))
    (text,) = node.host.values["porch"].values()
    assert json.loads(text)["tensors"][0]["data"] == [1, 2]


def test_numbers_run_over_all_devices_and_begin_again_after_255(node, make_result):
    for seq in range(600):
        node.publish(make_result(seq, source=f"camera{seq % 3}", output=found(seq % 2)))
    assert node.host.next_seq == (1 + 3 + 600) % 256


def test_historical_values_are_marked_and_leave_the_current_ones_alone(node, make_result):
    node.publish(make_result(9, output=found(0)))
    node.publish(make_result(1, output=found(1, 1), captured_utc_ns=7_000_000), historical=True)
    (data,) = node.publish(make_result(2, output=found(1, 1), captured_utc_ns=8_000_000), historical=True)
    assert node.host.values["porch"]["detector/count"] == 1
    first, second = (values for _, values in node.host.history)
    assert (first["detector/count"], first["detector/labels/car"]) == (2, 2)
    assert second.keys() == {"detector/result"}
    assert json.loads(second["detector/result"])["historical"] is True
    assert decode(data.payload)["metrics"]["detector/result"]["timestamp"] == 8
    (live,) = node.publish(make_result(10, output=found(0)))
    assert decode(live.payload)["metrics"].keys() == {"detector/result"}


def test_a_device_that_has_only_history_has_no_current_values(node, make_result):
    assert kinds(node.publish(make_result(output=found(0)), historical=True)) == ["DBIRTH", "DDATA"]
    assert set(node.host.values["porch"].values()) == {None}
    assert kinds(node.publish(make_result(1, output=found(0)))) == ["DDATA"]
    assert node.host.values["porch"]["detector/labels/car"] == 0


def test_a_new_connection_begins_with_all_births(node, make_result):
    node.publish(make_result(output=found(0)))
    node.publish(make_result(output=found(1), source="gate"))
    node.publish(make_result(1, output=found(1, 1)), historical=True)
    births = node.connect()
    assert [birth.topic.split("/", 2)[2] for birth in births] == [
        "NBIRTH/n1",
        "DBIRTH/n1/porch",
        "DBIRTH/n1/gate",
    ]
    assert {birth.qos for birth in births} == {0}
    assert node.host.bdseq == 1
    assert node.host.values["porch"]["detector/labels/person"] == 1
    assert kinds(node.publish(make_result(2))) == ["DBIRTH", "DDATA"]  # the label "cat"
    node.publish(make_result(1, output=found(1, 1)), historical=True)
    assert node.host.history[-1][1]["detector/count"] == 2  # said again: nobody need have heard it


def test_a_host_may_ask_for_all_births(node, make_result):
    node.publish(make_result(output=found(0)))
    node.publish(make_result(1, output=found(0)))
    node.host.births.clear()
    births = node.command(encode_command(REBIRTH, True))
    assert kinds(births) == ["NBIRTH", "DBIRTH"]
    assert (node.host.bdseq, node.host.next_seq) == (0, 2)
    assert node.host.births.keys() == {"", "porch"}
    assert kinds(node.publish(make_result(2, output=found(0)))) == ["DDATA"]
    assert node.dialect.counts.snapshot() == {"rebirth": 1}


@pytest.mark.parametrize(
    ("payload", "fields", "counted"),
    [
        (encode_command(REBIRTH, False), {}, "unknown"),
        (encode_command("Node Control/Reboot", True), {}, "unknown"),
        (encode_command(REBIRTH, True), {"is_retained": True}, "retained"),
        (b"", {}, "unknown"),
        (b'{"metrics": []}', {}, "garbage"),
        (encode_command(REBIRTH, True)[:-1], {}, "garbage"),
    ],
    ids=["false", "other", "retained", "empty", "json", "short"],
)
def test_other_commands_are_counted_and_ignored(node, make_result, payload, fields, counted):
    assert node.command(payload, **fields) == []
    assert node.dialect.counts.snapshot() == {counted: 1}
    node.publish(make_result())


@given(payload=st.binary(max_size=64))
@example(payload=b"\x12\x04\x0a\x02\xff\xfe")  # a name that is no text
def test_no_bytes_break_the_dialect(payload):
    node = Node()
    node.connect()
    node.command(payload)
    assert node.dialect.counts.total() == 1


def test_a_result_that_cannot_be_encoded_leaves_no_gap(node, make_result):
    node.publish(make_result(0, output=found(0)))
    with pytest.raises(UnicodeEncodeError):
        node.publish(make_result(1, output=found(0, labels=["person", "\ud800"])))
    with pytest.raises(UnicodeEncodeError):
        node.publish(make_result(1, output=found(0, labels=["\ud800"]), source="gate"))
    assert kinds(node.publish(make_result(2, output=found(0)))) == ["DDATA"]
    assert kinds(node.connect()) == ["NBIRTH", "DBIRTH"]


@pytest.mark.parametrize("names", [{"source": "a/b"}, {"model": "a+"}, {"source": ""}])
def test_a_name_that_is_no_level_of_a_topic_is_refused(node, make_result, names):
    with pytest.raises(ConfigError):
        node.publish(make_result(**names))
    assert node.host.next_seq == 1


@pytest.mark.parametrize("names", [{"group": "a/b"}, {"node": "#"}])
def test_a_bad_group_or_node_is_refused(names):
    with pytest.raises(ConfigError, match="contains"):
        Node(**names)


def test_it_listens_for_commands_to_its_node_and_announces_nothing_else():
    dialect = Node().dialect
    assert dialect.subscriptions == (NCMD,)
    assert not dialect.announces


def read_options(tmp_path, **table):
    return Document(tmp_path / "p.toml", {"sparkplug": table}).section("sparkplug", SparkplugOptions)


def test_options(tmp_path):
    assert read_options(tmp_path, group="plant") == SparkplugOptions(group="plant", node=None)
    assert read_options(tmp_path, group="plant", node="line 4").node == "line 4"


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({}, "key 'group' is missing"),
        ({"group": "a/b"}, "group 'a/b' contains '/'"),
        ({"group": "a", "node": "+"}, "node '\\+' contains '\\+'"),
        ({"group": "a", "node": ""}, "node '' is empty"),
        ({"group": "a", "nod": "b"}, "did you mean 'node'"),
    ],
)
def test_wrong_options(tmp_path, table, message):
    with pytest.raises(ConfigError, match=message):
        read_options(tmp_path, **table)

"""What messages make of nodes, parts and results."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgert.listen import watch as module
from edgert.listen.watch import Watch
from edgert.publish.session import Received
from tests.unit.listen.heard import RESULT_TOPIC, at, message, retained


@pytest.fixture
def watch():
    return Watch("edgert")


def test_states_of_a_node_and_since_when(watch):
    found = watch.feed(retained("edgert/n/state", b"ready"), at(1))
    assert (found.kind, found.subject.name, found.text, found.is_news) == ("state", "n", "ready", True)
    assert watch.nodes["n"].state.was_found
    assert not watch.feed(Received("edgert/n/state", b"ready"), at(2)).is_news
    assert watch.nodes["n"].state.since == at(1)
    assert watch.feed(Received("edgert/n/state", b"lost"), at(3)).is_news
    state = watch.nodes["n"].state
    assert (state.word, state.since, state.was_found) == ("lost", at(3), False)


def test_states_of_sources_and_models(watch):
    watch.feed(
        Received("edgert/n/source/porch/state", b'{"state":"offline","reason":"gone","frames":3}'), at(1)
    )
    event = watch.feed(Received("edgert/n/model/m/state", b'{"state":"READY","versions":[1,2]}'), at(2))
    node = watch.nodes["n"]
    assert (node.sources["porch"].word, node.sources["porch"].reason) == ("offline", "gone")
    assert (node.models["m"].word, node.models["m"].versions) == ("READY", (1, 2))
    assert event.text == "READY"
    again = watch.feed(Received("edgert/n/model/m/state", b'{"state":"READY","versions":[2]}'), at(3))
    assert again.is_news
    assert node.models["m"].since == at(3)


def test_a_birth_with_another_boot_is_a_restart(watch):
    for boot, restarts in (("b1", 0), ("b1", 0), ("b2", 1)):
        event = watch.feed(
            Received("edgert/n/birth", msgspec.json.encode({"boot": boot, "versions": {"edgert": "1"}})),
            at(1),
        )
        assert watch.nodes["n"].restarts == restarts
    assert (event.text, watch.nodes["n"].birth.boot) == ("edgert 1", "b2")


def test_results_are_counted_by_node_source_and_model(watch):
    assert watch.feed(message(0), at(0)).text == "next"
    assert watch.feed(message(0), at(0)).text == "duplicate"
    watch.feed(message(0, topic="edgert/o/source/porch/result/m"), at(0))
    assert watch.result_count == 3
    assert [*watch.results] == [("n", "porch", "m"), ("o", "porch", "m")]
    assert watch.results["n", "porch", "m"].totals.duplicates == 1
    assert {*watch.nodes} == {"n", "o"}


def test_a_payload_that_cannot_be_read_is_counted_and_changes_nothing_else(watch):
    event = watch.feed(Received(RESULT_TOPIC, b"{"), at(0))
    assert event.kind == "malformed"
    assert (watch.malformed.count, watch.malformed.last_topic) == (1, RESULT_TOPIC)
    assert watch.malformed.last_reason == event.text != ""
    assert (watch.result_count, watch.nodes, watch.results) == (0, {}, {})


def test_an_empty_result_is_malformed(watch):
    assert watch.feed(Received(RESULT_TOPIC, b""), at(0)).kind == "malformed"


@pytest.mark.parametrize("suffix", ["state", "birth", "source/s/state", "model/m/state"])
def test_an_empty_payload_takes_away_what_was_retained(watch, suffix):
    assert watch.feed(Received(f"edgert/n/{suffix}", b""), at(0)).kind == "removed"
    assert not watch.nodes  # of a node that nobody has heard
    payloads = {"state": b"ready", "birth": b'{"boot":"b"}'}
    watch.feed(Received(f"edgert/n/{suffix}", payloads.get(suffix, b'{"state":"READY"}')), at(0))
    assert watch.nodes["n"] != module.NodeWatch()
    watch.feed(Received(f"edgert/n/{suffix}", b""), at(0))
    assert watch.nodes["n"] == module.NodeWatch()


def test_other_topics_are_nothing(watch):
    assert watch.feed(Received("edgert/n/stats", b"{}"), at(0)) is None
    assert watch.feed(Received("other/n/state", b"ready"), at(0)) is None


@given(
    st.sampled_from(["state", "birth", "source/s/state", "model/m/state", "source/s/result/m"]),
    st.binary(max_size=60),
    st.booleans(),
)
def test_no_payload_makes_it_raise(suffix, payload, is_retained):
    event = Watch("edgert").feed(Received(f"edgert/n/{suffix}", payload, is_retained), at(0))
    assert event.kind in ("state", "birth", "removed", "malformed", "result")


def test_names_without_end_do_not_fill_the_memory(watch, monkeypatch):
    monkeypatch.setattr(module, "MOST", 5)
    for number in range(20):
        watch.feed(message(0, topic=f"edgert/n{number}/source/s/result/m"), at(number))
        watch.feed(Received(f"edgert/n19/source/s{number}/state", b'{"state":"online"}'), at(number))
    assert [*watch.results] == [(f"n{number}", "s", "m") for number in range(15, 20)]
    assert len(watch.nodes) == 5
    assert [*watch.nodes["n19"].sources] == [f"s{number}" for number in range(15, 20)]
    assert watch.forgotten > 40

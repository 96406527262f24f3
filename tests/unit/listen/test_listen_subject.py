"""Topics and what they are about."""

from __future__ import annotations

import pytest
from paho.mqtt.client import topic_matches_sub

from edgert.listen.subject import Subject, parse_topic, topic_filters
from edgert.publish import topics

PREFIX = topics.prefix("site/edgert", "n")
SUBJECTS = {
    topics.STATE: Subject("node", "n"),
    topics.BIRTH: Subject("birth", "n"),
    topics.source_state("s"): Subject("source", "n", source="s"),
    topics.model_state("m"): Subject("model", "n", model="m"),
    topics.result("s", "m"): Subject("result", "n", "s", "m"),
}


@pytest.mark.parametrize("suffix", SUBJECTS)
def test_every_topic_that_is_subscribed_to_is_understood(suffix):
    assert parse_topic("site/edgert", PREFIX + suffix) == SUBJECTS[suffix]
    matching = [one for one in topic_filters("site/edgert") if topic_matches_sub(one, PREFIX + suffix)]
    assert len(matching) == 1


@pytest.mark.parametrize(
    "topic",
    [
        PREFIX + topics.STATS,
        PREFIX + topics.command("load"),
        "edgert/n/state",
        "site/edgert/state",
        "site",
        "",
    ],
)
def test_other_topics_are_about_nothing(topic):
    assert parse_topic("site/edgert", topic) is None


def test_filters_let_through_what_was_chosen_only():
    filters = topic_filters("edgert", "n", "s", "m")

    def passes(topic):
        return any(topic_matches_sub(one, topic) for one in filters)

    assert passes("edgert/n/source/s/result/m")
    assert passes("edgert/n/state")
    others = ("o/source/s/result/m", "n/source/o/result/m", "n/source/s/result/o", "n/model/o/state")
    assert not any(passes(f"edgert/{other}") for other in others)


def test_names_for_people():
    assert [subject.name for subject in SUBJECTS.values()] == ["n", "n", "n source s", "n model m", "n s/m"]

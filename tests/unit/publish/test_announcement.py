"""What Home Assistant is told when something changes."""

from __future__ import annotations

import json

import pytest

from edgert.publish.announcement import Announcement
from edgert.publish.home_assistant import HomeAssistantOptions, discovery, removal
from edgert.publish.session import Received
from tests.fakes.log_watch import LogWatch

PREFIX = "edgert/porch/"
SOURCES = {"door": ["detector"]}
LABELS = {"detector": ["person", "cat"]}
OPTIONS = HomeAssistantOptions()
TOPIC = "homeassistant/device/edgert_porch/config"
STATUS = "homeassistant/status"
CAT = "count_-door_-detector_-cat"


def make(options=OPTIONS):
    return Announcement("porch", PREFIX, options, "1.0")


def told(sources=SOURCES, labels=LABELS):
    """Return an announcement that has been sent once."""
    announcement = make()
    assert len(announcement.update(sources, labels)) == 1
    return announcement


def said(messages):
    return [json.loads(message.payload)["components"] for message in messages]


class HomeAssistant:
    """Keeps the components of a device as the documentation of device discovery says."""

    def __init__(self):
        self.components = {}

    def take(self, messages):
        for message in messages:
            assert message.topic == TOPIC
            found = json.loads(message.payload)["components"] if message.payload else None
            self._take(found)
        return self.components

    def _take(self, found):
        if found is None:
            self.components = {}
            return
        for key, component in found.items():
            if component.keys() == {"platform"}:
                self.components.pop(key, None)
            else:
                self.components[key] = component


def test_nothing_is_said_before_it_is_known_what():
    announcement = make()
    assert announcement.greeting() == []
    assert announcement.received(Received(STATUS, b"online")) == []


def test_the_announcement_is_retained():
    (message,) = make().update(SOURCES, LABELS)
    assert (message.topic, message.payload) == discovery("porch", PREFIX, SOURCES, LABELS, OPTIONS, "1.0")
    assert (message.qos, message.is_retained, message.ticket) == (1, True, None)


def test_what_is_known_already_is_not_said_again():
    assert told().update(dict(SOURCES), {"detector": ("person", "cat")}) == []


def test_home_assistants_start_is_answered():
    announcement = told()
    expected = announcement.greeting()[0].payload
    (message,) = announcement.received(Received(STATUS, b"online"))
    assert message.payload == expected


@pytest.mark.parametrize(
    "received",
    [
        Received(STATUS, b"offline"),
        Received(STATUS, b"online", is_retained=True),
        Received("homeassistant/other", b"online"),
        Received(TOPIC, b""),
    ],
    ids=str,
)
def test_nothing_else_is_answered(received):
    assert told().received(received) == []


def test_what_is_gone_is_removed_and_then_left_out():
    announcement, home = told(), HomeAssistant()
    home.take(announcement.greeting())
    assert CAT in home.components
    messages = announcement.update(SOURCES, {"detector": ["person"]})
    first, last = said(messages)
    assert first[CAT] == {"platform": "sensor"}
    assert next(iter(first)) == CAT
    assert CAT not in last
    assert home.take(messages) == last
    assert all(message.is_retained for message in messages)


def test_a_source_that_is_gone_takes_all_of_it_along():
    announcement, home = told({"door": ["detector"], "yard": ["detector"]}), HomeAssistant()
    home.take(announcement.greeting())
    home.take(announcement.update(SOURCES, LABELS))
    assert home.components == said(told().greeting())[0]


def test_a_removal_that_was_not_delivered_is_said_again_on_the_next_connection():
    announcement, home = told(), HomeAssistant()
    home.take(announcement.greeting())
    announcement.update(SOURCES, {"detector": ["person"]})  # and nobody hears it
    assert CAT not in home.take(announcement.greeting())


def test_what_comes_back_is_no_longer_removed():
    announcement = told()
    announcement.update(SOURCES, {"detector": ["person"]})
    assert len(announcement.update(SOURCES, LABELS)) == 1
    (config,) = said(announcement.greeting())
    assert CAT in config


def earlier():
    """Return the retained message of a process that had one label more."""
    before = told(labels={"detector": ["person", "cat", "dog"]}).greeting()
    return before, Received(TOPIC, before[0].payload, is_retained=True)


def test_what_an_earlier_process_announced_is_removed():
    before, retained = earlier()
    announcement, home = told(), HomeAssistant()
    home.take(before)
    home.take(announcement.greeting())
    assert len(home.components) == 6
    assert home.take(announcement.received(retained)) == said(told().greeting())[0]
    assert announcement.received(retained) == []  # known by now


def test_what_an_earlier_process_announced_may_be_heard_first():
    before, retained = earlier()
    announcement, home = make(), HomeAssistant()
    home.take(before)
    assert announcement.received(retained) == []
    assert home.take(announcement.update(SOURCES, LABELS)) == said(told().greeting())[0]


def test_a_removal_that_broke_off_is_resumed_by_the_next_process():
    announcement = told()
    first, _ = announcement.update(SOURCES, {"detector": ["person"]})
    following = make()
    following.update(SOURCES, {"detector": ["person"]})
    removing, _ = said(following.received(Received(TOPIC, first.payload, is_retained=True)))
    assert removing[CAT] == {"platform": "sensor"}


def test_its_own_message_is_no_news():
    announcement = told()
    own = announcement.greeting()[0].payload
    assert announcement.received(Received(TOPIC, own, is_retained=True)) == []


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"no JSON",
        b"\xff",
        b'"\xff"',
        b"{}",
        b"[]",
        b'{"components": {"a": {}}}',
        b'{"components": {"a": {"platform": "lock"}}}',
        b'{"components": {"a b": {"platform": "sensor"}}}',
    ],
    ids=str,
)
def test_what_edgert_does_not_write_is_not_learnt(payload):
    announcement = told()
    assert announcement.received(Received(TOPIC, payload, is_retained=True)) == []
    assert len(announcement.greeting()) == 1


def test_a_withdrawn_node_is_removed_until_it_is_updated():
    announcement = told()
    (message,) = announcement.withdraw()
    assert (message.topic, message.payload) == removal("porch", PREFIX, OPTIONS)
    assert message.is_retained
    assert announcement.greeting() == []
    assert len(announcement.update(SOURCES, LABELS)) == 1


def test_it_listens_to_the_start_of_home_assistant_and_to_its_own_retained_message():
    options = HomeAssistantOptions(status_topic="ha/birth", discovery_prefix="ha")
    assert make(options).subscriptions == ("ha/birth", "ha/device/edgert_porch/config")
    announcement = make(options)
    announcement.update(SOURCES, LABELS)
    assert len(announcement.received(Received("ha/birth", b"online"))) == 1


def test_labels_that_get_no_sensor_are_said_once():
    many = {"detector": [str(i) for i in range(21)], "birds": ["robin"]}
    announcement = make()
    with LogWatch() as log:
        announcement.update(SOURCES, many)
        announcement.update(SOURCES, many)
        (warning,) = log.warnings()
    assert "only the first 20 labels of detector get a sensor" in warning


def test_a_label_that_no_model_has_is_said():
    announcement = make(HomeAssistantOptions(labels=("cat", "dgo")))
    with LogWatch() as log:
        announcement.update(SOURCES, LABELS)
        assert log.warnings() == ["Home Assistant: no model has the labels 'dgo'"]


def test_a_model_without_labels_may_have_any():
    announcement = make(HomeAssistantOptions(labels=("7",)))
    with LogWatch() as log:
        announcement.update({"door": ["detector", "other"]}, {"detector": ["person"], "other": []})
        assert log.warnings() == []

"""Connecting, falling back, coming back; no network."""

from __future__ import annotations

from functools import partial

import pytest

from edgert.errors import ConfigError, SinkError
from edgert.listen.link import HINT, RETRY_MAX_S, Link
from edgert.publish.known_broker import KnownBroker
from edgert.publish.reasons import CredentialsRefusedError, TlsFailedError
from edgert.publish.session import BrokerRefusedError, Received
from edgert.publish.waker import Waker
from tests.fakes.clock import FakeClock

MESSAGE = Received("t", b"p")
OTHER_VERSION = BrokerRefusedError("speaks another version", try_other_version=True)


class FakeEar:
    """`answers` are what connecting raises, or None, by (host, version); by default it succeeds."""

    def __init__(self, world, attempt):
        self.world = world
        self.key = attempt.host, attempt.version
        self.has_will = bool(attempt.will.topic)
        self.is_connected = False
        self.is_open = False

    def connect(self):
        self.world.attempts.append(self.key)
        self.is_open = True
        self.world.open_count += 1
        error = self.world.answers.get(self.key)
        if error is not None:
            raise error
        self.is_connected = True

    def subscribe(self, filters, qos):
        assert (qos, self.has_will) == (0, False)
        self.world.filters += filters

    def unsubscribe(self, topic_filter):
        self.world.filters.remove(topic_filter)

    def is_subscribed(self):
        return True

    def take_refused_filters(self):
        return [(each, "Not authorized") for each in self.world.refused_filters]

    def pump(self, wake, timeout_s):
        if self.world.failure is not None:
            raise self.world.failure

    def take_received(self):
        received, self.world.waiting = self.world.waiting, []
        return received

    def say_goodbye(self):
        self.world.goodbyes += 1
        if self.world.failure is not None:
            raise self.world.failure

    def close(self):
        self.world.open_count -= self.is_open
        self.is_open = False


class World:
    """Brokers, what happened, and a link to them."""

    def __init__(self, hosts=("a",), protocol="auto"):
        self.answers = {}
        self.refused_filters = []
        self.failure = None
        self.waiting = []
        self.attempts = []
        self.states = []
        self.open_count = 0
        self.goodbyes = 0
        self.filters = []
        self.clock = FakeClock()
        self.link = Link(
            [KnownBroker(host, 1883, protocol) for host in hosts],
            ["x/#", "y/#"],
            "me",
            partial(FakeEar, self),
            lambda state: self.states.append((state.is_connected, state.text)),
            self.clock,
        )

    def pass_time(self, seconds):
        self.clock.advance(int(seconds * 1e9))


@pytest.fixture
def wake():
    waker = Waker()
    waker.open()
    waker.wake()  # so that nothing waits
    yield waker.fileno()
    waker.close()


def test_it_connects_and_hands_on():
    world = World()
    world.link.open()
    world.waiting = [MESSAGE]
    assert world.link.pump(-1, 0.1) == [MESSAGE]
    assert world.states == [(True, "connected to MQTT broker a:1883 with MQTT 5")]
    assert world.filters == ["x/#", "y/#"]
    world.link.close()
    world.link.close()
    assert (world.open_count, world.goodbyes) == (0, 1)


def test_an_old_broker_is_asked_in_its_version_and_later_at_once(wake):
    world = World()
    world.answers = {("a", "5"): OTHER_VERSION}
    world.link.open()
    world.failure = SinkError("the connection was lost")
    world.link.pump(wake, 0.1)
    world.pass_time(RETRY_MAX_S)
    world.link.pump(wake, 0.1)
    assert world.attempts == [("a", "5"), ("a", "3.1.1"), ("a", "3.1.1")]
    assert world.open_count == 1


def test_the_next_broker_is_asked_if_the_first_is_away():
    world = World(hosts=("a", "b"), protocol="5")
    world.answers = {("a", "5"): SinkError("cannot be reached: gone")}
    world.link.open()
    assert world.states == [(True, "connected to MQTT broker b:1883 with MQTT 5")]


def test_nobody_to_connect_to_names_all_and_what_to_try():
    world = World(hosts=("a", "b"), protocol="5")
    world.answers = {(host, "5"): SinkError("cannot be reached: gone") for host in "ab"}
    with pytest.raises(SinkError) as raised:
        world.link.open()
    assert str(raised.value) == (
        "MQTT broker a:1883 cannot be reached: gone; MQTT broker b:1883 cannot be reached: gone. " + HINT
    )
    assert world.open_count == 0


def test_a_refusal_is_said_without_the_hint_for_an_absent_broker():
    world = World(protocol="5")
    world.answers = {("a", "5"): BrokerRefusedError("is full")}
    with pytest.raises(SinkError, match=r"^MQTT broker a:1883 is full$"):
        world.link.open()


def test_a_certificate_nobody_vouches_for_is_said_without_it_too():
    world = World(protocol="5")
    world.answers = {("a", "5"): TlsFailedError("cannot be reached: certificate verify failed")}
    with pytest.raises(SinkError, match=r"verify failed$"):
        world.link.open()


def test_wrong_credentials_end_the_first_attempt():
    world = World(hosts=("a", "b"))
    world.answers = {("a", "5"): CredentialsRefusedError("refused the connection: no")}
    with pytest.raises(ConfigError, match=r"^MQTT broker a:1883 refused the connection: no$"):
        world.link.open()
    assert world.attempts == [("a", "5")]
    assert world.open_count == 0


def test_a_lost_connection_is_made_again(wake):
    world = World(protocol="5")
    world.link.open()
    world.failure = SinkError("the connection was lost")
    assert world.link.pump(wake, 0.1) == []
    assert world.open_count == 0
    assert world.link.pump(wake, 0.1) == []  # not yet
    assert len(world.attempts) == 1
    world.failure = None
    world.waiting = [MESSAGE]
    world.pass_time(RETRY_MAX_S)
    world.link.pump(wake, 0.1)
    assert world.link.pump(wake, 0.1) == [MESSAGE]
    assert [text for _, text in world.states] == [
        "connected to MQTT broker a:1883 with MQTT 5",
        "connection lost: the connection was lost",
        "connected to MQTT broker a:1883 with MQTT 5",
    ]


@pytest.mark.parametrize("error", [SinkError("cannot be reached: gone"), ConfigError("refused")], ids=str)
def test_while_the_broker_is_away_it_is_said_once(wake, error):
    world = World(protocol="5")
    world.link.open()
    world.failure = SinkError("the connection was lost")
    world.answers = {("a", "5"): error}
    for _ in range(5):
        assert world.link.pump(wake, 0.1) == []
        world.pass_time(RETRY_MAX_S)
    assert len(world.attempts) == 5
    assert [is_connected for is_connected, _ in world.states] == [True, False, False]
    assert world.states[-1][1].startswith("no connection: ")
    assert world.open_count == 0


def test_what_came_before_the_end_is_handed_out_before_it_is_said(wake):
    world = World()
    world.link.open()
    world.waiting, world.failure = [MESSAGE], SinkError("the connection was lost")
    assert world.link.pump(wake, 0.1) == [MESSAGE]
    assert len(world.states) == 1
    assert world.link.pump(wake, 0.1) == []
    assert world.states[-1] == (False, "connection lost: the connection was lost")


def test_filters_that_are_refused_are_said():
    world = World()
    world.refused_filters = ["y/#"]
    world.link.open()
    assert world.states[0][1].endswith("with MQTT 5; it does not let us read y/#")


def test_a_filter_that_is_added_is_asked_for_again_until_it_is_removed(wake):
    world = World()
    world.link.open()
    world.link.add_filter("z")
    assert world.filters == ["x/#", "y/#", "z"]
    world.filters, world.failure = [], SinkError("the connection was lost")
    world.link.pump(wake, 0.1)
    world.failure = None
    world.pass_time(RETRY_MAX_S)
    world.link.pump(wake, 0.1)
    assert world.filters == ["x/#", "y/#", "z"]
    world.link.remove_filter("z")
    assert world.filters == ["x/#", "y/#"]

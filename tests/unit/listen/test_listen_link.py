"""Connecting, falling back, coming back; no network."""

from __future__ import annotations

import ssl

import pytest

from edgert.errors import ConfigError, SinkError
from edgert.listen.link import HINT, RETRY_MAX_S, Broker, Link
from edgert.publish.session import BrokerRefusedError, Received
from edgert.publish.waker import Waker
from tests.fakes.clock import FakeClock

MESSAGE = Received("t", b"p")
OTHER_VERSION = BrokerRefusedError("speaks another version", try_other_version=True)


class FakeEar:
    """`answers` are what connecting raises, or None, by (host, version); by default it succeeds."""

    def __init__(self, world, host, version):
        self.world = world
        self.key = host, version
        self.refused_filters = world.refused_filters
        self.is_open = False

    def open(self, filters):
        self.world.attempts.append(self.key)
        self.world.filters = filters
        self.is_open = True
        self.world.open_count += 1
        error = self.world.answers.get(self.key)
        if error is not None:
            raise error

    def pump(self, wake, timeout_s):
        if self.world.failure is not None:
            raise self.world.failure
        return [MESSAGE]

    def close(self):
        self.world.open_count -= self.is_open
        self.is_open = False


class World:
    """Brokers, what happened, and a link to them."""

    def __init__(self, hosts=("a",), versions=("5", "3.1.1")):
        self.answers = {}
        self.refused_filters = []
        self.failure = None
        self.attempts = []
        self.states = []
        self.open_count = 0
        self.filters = None
        self.clock = FakeClock()
        self.link = Link(
            [Broker(host, 1883, [*versions]) for host in hosts],
            ["x/#"],
            lambda host, port, version: FakeEar(self, host, version),
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
    assert world.link.pump(-1, 0.1) == [MESSAGE]
    assert world.states == [(True, "connected to MQTT broker a:1883 with MQTT 5")]
    assert world.filters == ["x/#"]
    world.link.close()
    world.link.close()
    assert world.open_count == 0


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
    world = World(hosts=("a", "b"), versions=("5",))
    world.answers = {("a", "5"): SinkError("cannot be reached: gone")}
    world.link.open()
    assert world.states == [(True, "connected to MQTT broker b:1883 with MQTT 5")]


def test_nobody_to_connect_to_names_all_and_what_to_try():
    world = World(hosts=("a", "b"), versions=("5",))
    world.answers = {(host, "5"): SinkError("cannot be reached: gone") for host in "ab"}
    with pytest.raises(SinkError) as raised:
        world.link.open()
    assert str(raised.value) == (
        "MQTT broker a:1883 cannot be reached: gone; MQTT broker b:1883 cannot be reached: gone. " + HINT
    )
    assert world.open_count == 0


def test_a_refusal_is_said_without_the_hint_for_an_absent_broker():
    world = World(versions=("5",))
    world.answers = {("a", "5"): BrokerRefusedError("is full")}
    with pytest.raises(SinkError, match=r"^MQTT broker a:1883 is full$"):
        world.link.open()


def test_a_certificate_nobody_vouches_for_is_said_without_it_too():
    world = World(versions=("5",))
    error = SinkError("cannot be reached: certificate verify failed")
    error.__cause__ = ssl.SSLCertVerificationError()
    world.answers = {("a", "5"): error}
    with pytest.raises(SinkError, match=r"verify failed$"):
        world.link.open()


def test_wrong_credentials_end_the_first_attempt():
    world = World(hosts=("a", "b"))
    world.answers = {("a", "5"): ConfigError("MQTT broker a:1883 refused the connection")}
    with pytest.raises(ConfigError, match="refused the connection"):
        world.link.open()
    assert world.attempts == [("a", "5")]
    assert world.open_count == 0


def test_a_lost_connection_is_made_again(wake):
    world = World(versions=("5",))
    world.link.open()
    world.failure = SinkError("the connection was lost")
    assert world.link.pump(wake, 0.1) == []
    assert world.open_count == 0
    assert world.link.pump(wake, 0.1) == []  # not yet
    assert len(world.attempts) == 1
    world.failure = None
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
    world = World(versions=("5",))
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


def test_filters_that_are_refused_are_said():
    world = World()
    world.refused_filters = ["edgert/+/birth"]
    world.link.open()
    assert world.states[0][1].endswith("with MQTT 5; it does not let us read edgert/+/birth")

"""Asking one broker, in the versions that it may speak."""

from __future__ import annotations

import pytest

from edgert.errors import SinkError
from edgert.publish.known_broker import KnownBroker, accepted
from edgert.publish.session import BrokerRefusedError
from edgert.publish.waker import Waker
from tests.fakes.clock import FakeClock

S = 1_000_000_000


class Asked:
    """Connects as the test says, and keeps which versions were asked for."""

    def __init__(self):
        self.versions = []
        self.refused = {}

    def __call__(self, version):
        self.versions.append(version)
        if version in self.refused:
            raise self.refused[version]
        return version


class FakeSession:
    """A session whose broker answers after `answer_s`, counted from the network connection."""

    def __init__(self, clock, answer_s):
        self.is_connected = False
        self.is_open = False
        self.waits_s = []
        self._clock = clock
        self._answer_ns = int(answer_s * S)

    def connect(self):
        self.is_open = True
        self._clock.advance(3 * S)  # of the network, which is no part of the broker's time
        self._answer_ns += self._clock()

    def pump(self, wake, timeout_s):
        self.waits_s.append(timeout_s)
        self._clock.advance(int(timeout_s * S))
        self.is_connected = self._clock() >= self._answer_ns

    def close(self):
        self.is_open = False


def other_version():
    return BrokerRefusedError("no", try_other_version=True)


def test_the_older_version_is_asked_for_if_that_may_help_and_remembered():
    broker, asked = KnownBroker("b", 1883, "auto"), Asked()
    asked.refused = {"5": other_version()}
    assert [broker.ask(asked), broker.ask(asked)] == ["3.1.1", "3.1.1"]
    assert asked.versions == ["5", "3.1.1", "3.1.1"]


def test_a_broker_that_ever_spoke_5_is_asked_for_it_first():
    broker, asked = KnownBroker("b", 1883, "auto"), Asked()
    broker.ask(asked)
    asked.refused = {"5": other_version()}
    broker.ask(asked)
    asked.refused = {}
    broker.ask(asked)
    assert asked.versions == ["5", "5", "3.1.1", "5"]


@pytest.mark.parametrize("error", [BrokerRefusedError("no"), SinkError("gone")], ids=str)
def test_what_another_version_would_not_change_ends_it(error):
    asked = Asked()
    asked.refused = {"5": error}
    with pytest.raises(SinkError, match=str(error)):
        KnownBroker("b", 1883, "auto").ask(asked)
    assert asked.versions == ["5"]


def test_the_last_version_that_was_tried_says_why():
    asked = Asked()
    asked.refused = {"5": other_version(), "3.1.1": BrokerRefusedError("not you")}
    with pytest.raises(BrokerRefusedError, match="not you"):
        KnownBroker("b", 1883, "auto").ask(asked)


def test_a_broker_is_called_by_its_address():
    assert KnownBroker("fe80::1", 1884, "5").title == "MQTT broker [fe80::1]:1884"


def test_the_broker_has_its_time_once_the_network_is_there():
    clock = FakeClock()
    session = FakeSession(clock, answer_s=1.9)
    assert accepted(session, Waker(), 2.0, clock) is session
    assert session.is_open
    assert sum(session.waits_s) == pytest.approx(2.0)


def test_a_broker_that_does_not_answer_is_left():
    clock = FakeClock()
    session = FakeSession(clock, answer_s=3.0)
    with pytest.raises(BrokerRefusedError, match="did not answer") as refused:
        accepted(session, Waker(), 2.0, clock)
    assert refused.value.try_other_version
    assert not session.is_open


def test_a_deadline_that_comes_nearer_ends_the_wait():
    clock = FakeClock()
    session = FakeSession(clock, answer_s=100.0)
    with pytest.raises(BrokerRefusedError):
        accepted(session, Waker(), 50.0, clock, lambda deadline_ns: min(deadline_ns, 4 * S))
    assert clock() == 4 * S

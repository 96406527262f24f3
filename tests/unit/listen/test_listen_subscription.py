"""One connection through paho, against a peer on loopback that answers with prepared bytes."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from edgert.errors import ConfigError, SinkError
from edgert.listen import subscription as module
from edgert.listen.subscription import Subscription
from edgert.publish.options import MqttOptions
from edgert.publish.session import BrokerRefusedError, Received

TIMEOUT_S = 10.0
FILTERS = ["a/+", "b/+"]
ACCEPTED = bytes([0x20, 3, 0, 0, 0])
ACCEPTED_311 = bytes([0x20, 2, 0, 0])
GRANTED = bytes([0x90, 5, 0, 1, 0, 0, 0])  # to packet 1, both filters with QoS 0
GRANTED_311 = bytes([0x90, 4, 0, 1, 0, 0])
MESSAGE = bytes([0x31, 7, 0, 1]) + b"t" + bytes([0]) + b"abc"  # retained
MESSAGE_311 = bytes([0x30, 6, 0, 1]) + b"tabc"
SHUTTING_DOWN = bytes([0xE0, 2, 0x8B, 0])


class Peer:
    """Sends one of `answers` after each packet that it gets; then it keeps quiet, or closes at None."""

    def __init__(self, answers):
        self._answers = answers
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.packets = []
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._thread.join(TIMEOUT_S)
        self._listener.close()

    def _serve(self):
        connection, _ = self._listener.accept()
        connection.settimeout(TIMEOUT_S)
        with connection:
            for answer in self._answers:
                self.packets.append(connection.recv(4096))
                if answer is None:
                    return
                connection.sendall(answer)
            while part := connection.recv(4096):
                self.packets.append(part)


@pytest.fixture
def connect():
    """Return a function that makes a subscription, open or not, to a peer with these answers."""
    opened = []

    def connect(*answers, version="5", opens=True, **options):
        peer = Peer(answers).__enter__()
        subscription = Subscription("127.0.0.1", peer.port, version, MqttOptions(**options), "me", Path)
        opened.append((peer, subscription))
        if opens:
            subscription.open(FILTERS)
        return subscription

    yield connect
    for peer, subscription in opened:
        subscription.close()
        subscription.close()
        peer.__exit__()


@pytest.mark.parametrize(
    ("version", "answers"),
    [("5", (ACCEPTED, GRANTED + MESSAGE)), ("3.1.1", (ACCEPTED_311, GRANTED_311 + MESSAGE_311))],
)
def test_what_comes_with_the_answer_is_not_lost(connect, version, answers):
    subscription = connect(*answers, version=version)
    assert subscription.pump(-1, TIMEOUT_S) == [Received("t", b"abc", is_retained=version == "5")]
    assert subscription.refused_filters == []


def test_many_messages_come_at_once_and_in_order(connect):
    many = b"".join(bytes([0x30, 5, 0, 1]) + b"t" + bytes([0, n]) for n in range(200))
    subscription = connect(ACCEPTED, GRANTED + many)
    received = []
    while len(received) < 200:
        received += subscription.pump(-1, TIMEOUT_S)
    assert [one.payload for one in received] == [bytes([n]) for n in range(200)]


def test_a_filter_that_is_refused_is_noted(connect):
    subscription = connect(ACCEPTED, bytes([0x90, 5, 0, 1, 0, 0, 0x87]))
    assert subscription.refused_filters == ["b/+"]


@pytest.mark.parametrize(
    ("version", "answers"),
    [
        ("5", (ACCEPTED, bytes([0x90, 5, 0, 1, 0, 0x87, 0x87]))),
        ("3.1.1", (ACCEPTED_311, bytes([0x90, 4, 0, 1, 0x80, 0x80]))),
    ],
)
def test_if_all_are_refused_that_is_an_error(connect, version, answers):
    subscription = connect(*answers, version=version, opens=False, user="me")
    with pytest.raises(BrokerRefusedError, match=r"lets user 'me' read none of a/\+, b/\+"):
        subscription.open(FILTERS)


@pytest.mark.parametrize(
    ("version", "answer"),
    [
        ("5", bytes([0x20, 3, 0, 0x86, 0])),
        ("5", bytes([0x20, 3, 0, 0x87, 0])),
        ("3.1.1", bytes([0x20, 2, 0, 5])),
    ],
)
def test_refused_credentials_are_the_operators(connect, version, answer):
    subscription = connect(answer, version=version, opens=False)
    with pytest.raises(ConfigError, match=r"^MQTT broker 127.0.0.1:\d+ refused the connection: .*as no user"):
        subscription.open(FILTERS)


@pytest.mark.parametrize(
    ("code", "tries_other"), [(0x84, True), (0x81, True), (0x88, False), (0x97, False)], ids=hex
)
def test_another_version_is_worth_trying_where_that_may_help(connect, code, tries_other):
    subscription = connect(bytes([0x20, 3, 0, code, 0]), opens=False)
    with pytest.raises(BrokerRefusedError, match="refused the connection") as raised:
        subscription.open(FILTERS)
    assert raised.value.try_other_version is tries_other


def test_a_peer_that_hangs_up_may_want_something_else(connect):
    subscription = connect(None, opens=False)
    with pytest.raises(BrokerRefusedError, match=r"without an answer.*does it want --tls") as raised:
        subscription.open(FILTERS)
    assert raised.value.try_other_version


def test_silence_is_no_answer(connect, monkeypatch):
    monkeypatch.setattr(module, "ANSWER_TIMEOUT_S", 0.05)
    subscription = connect(opens=False)
    with pytest.raises(BrokerRefusedError, match="did not answer") as raised:
        subscription.open(FILTERS)
    assert raised.value.try_other_version


def test_an_end_comes_after_what_was_received_before_it(connect):
    subscription = connect(ACCEPTED, GRANTED + MESSAGE + SHUTTING_DOWN)
    assert [one.topic for one in subscription.pump(-1, TIMEOUT_S)] == ["t"]
    with pytest.raises(SinkError, match="ended the connection: Server shutting down"):
        subscription.pump(-1, TIMEOUT_S)


def test_nobody_listens():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    subscription = Subscription("127.0.0.1", port, "5", MqttOptions(), "me", Path)
    with pytest.raises(SinkError, match=r"^cannot be reached: Connection refused$"):
        subscription.open(FILTERS)
    subscription.close()


def test_a_wake_ends_the_wait(connect):
    subscription = connect(ACCEPTED, GRANTED)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.send(b"x")
        assert subscription.pump(ours.fileno(), 1e6) == []

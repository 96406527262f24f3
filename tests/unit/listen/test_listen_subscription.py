"""A link through paho, against a peer on loopback that answers with prepared bytes."""

from __future__ import annotations

import re
import socket
import threading
from functools import partial
from pathlib import Path

import pytest

from edgert.errors import ConfigError, SinkError
from edgert.listen import link as link_module
from edgert.listen import subscription as subscription_module
from edgert.listen.link import Link
from edgert.listen.run import LISTENER
from edgert.publish.known_broker import KnownBroker
from edgert.publish.mqtt import PahoSession
from edgert.publish.options import MqttOptions
from edgert.publish.session import Received
from tests.fakes.clock import WAIT_S

FILTERS = ["a/+", "b/+"]
ACCEPTED = bytes([0x20, 3, 0, 0, 0])
ACCEPTED_311 = bytes([0x20, 2, 0, 0])
MESSAGE = bytes([0x31, 7, 0, 1]) + b"t" + bytes([0]) + b"abc"  # retained
MESSAGE_311 = bytes([0x30, 6, 0, 1]) + b"tabc"
SHUTTING_DOWN = bytes([0xE0, 2, 0x8B, 0])


def granted(packet_id, code=0):
    return bytes([0x90, 4, 0, packet_id, 0, code])


def granted_311(packet_id, code=0):
    return bytes([0x90, 3, 0, packet_id, code])


class Peer:
    """Sends one of `answers` after each packet that it gets; then it keeps quiet, or closes at None."""

    def __init__(self, answers):
        self._answers = answers
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.packets = []
        self.last_words = b""
        self.hang_up = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self):
        self._thread.join(WAIT_S)
        self._listener.close()

    def _serve(self):
        connection, _ = self._listener.accept()
        connection.settimeout(WAIT_S)
        with connection, connection.makefile("rb") as stream:
            for answer in self._answers:
                self._keep(stream)
                if answer is None:
                    return
                connection.sendall(answer)
            if self.last_words:
                self.hang_up.wait(WAIT_S)
                connection.sendall(self.last_words)
            while self._keep(stream):
                pass

    def _keep(self, stream):
        head = stream.read(2)
        self.packets.append(head + stream.read(head[1]) if head else b"")
        return head


@pytest.fixture
def connect():
    """Return a function that makes a link, open or not, to a peer with these answers."""
    opened = []

    def connect(*answers, version="5", opens=True, **options):
        peer, given = Peer(answers), MqttOptions(**options)
        make = partial(PahoSession, given, client_id="me", resolve=Path, role=LISTENER)
        states = []
        broker = KnownBroker("127.0.0.1", peer.port, version)
        link = Link([broker], FILTERS, given.user, make, states.append)
        link.peer, link.states = peer, states
        opened.append(link)
        if opens:
            link.open()
        return link

    yield connect
    for link in opened:
        link.close()
        link.peer.close()


def received_by(link, count):
    received = []
    while len(received) < count:
        received += link.pump(-1, WAIT_S)
    return received


@pytest.mark.parametrize(
    ("version", "answers"),
    [
        ("5", (ACCEPTED, granted(1), granted(2) + MESSAGE)),
        ("3.1.1", (ACCEPTED_311, granted_311(1), granted_311(2) + MESSAGE_311)),
    ],
)
def test_what_comes_with_the_answer_is_not_lost(connect, version, answers):
    link = connect(*answers, version=version)
    assert received_by(link, 1) == [Received("t", b"abc", is_retained=version == "5")]
    assert link.states[0].text.endswith(f"with MQTT {version}")


def test_it_listens_with_qos_0_and_no_will_and_takes_all_that_mqtt_allows(connect):
    link = connect(ACCEPTED, granted(1), granted(2))
    link.close()
    link.peer.close()
    hello, first, second, goodbye, _ = link.peer.packets
    assert hello[9] == 0b0000_0010  # clean start
    assert hello[12:21] == bytes([8, 0x21, 255, 255, 0x27, 0x0F, 0xFF, 0xFF, 0xFF])
    assert (first[4:], second[4:]) == (b"\0\0\x03a/+\0", b"\0\0\x03b/+\0")
    assert goodbye[0] == 0xE0


def test_many_messages_come_at_once_and_in_order(connect):
    many = b"".join(bytes([0x30, 5, 0, 1]) + b"t" + bytes([0, n]) for n in range(200))
    link = connect(ACCEPTED, granted(1), granted(2) + many)
    assert [one.payload for one in received_by(link, 200)] == [bytes([n]) for n in range(200)]


def test_a_filter_that_is_refused_is_said(connect):
    link = connect(ACCEPTED, granted(1), granted(2, 0x87))
    assert link.states[0].text.endswith("; it does not let us read b/+")


@pytest.mark.parametrize(
    ("version", "answers"),
    [
        ("5", (ACCEPTED, granted(1, 0x87), granted(2, 0x87))),
        ("3.1.1", (ACCEPTED_311, granted_311(1, 0x80), granted_311(2, 0x80))),
    ],
)
def test_if_all_are_refused_that_is_an_error(connect, version, answers):
    link = connect(*answers, version=version, opens=False, user="me")
    with pytest.raises(SinkError, match=r"lets user 'me' read none of a/\+, b/\+; check its access list$"):
        link.open()
    assert link.states == []


@pytest.mark.parametrize(
    ("version", "answer"),
    [
        ("5", bytes([0x20, 3, 0, 0x86, 0])),
        ("5", bytes([0x20, 3, 0, 0x87, 0])),
        ("3.1.1", bytes([0x20, 2, 0, 5])),
    ],
)
def test_refused_credentials_are_the_operators(connect, version, answer):
    link = connect(answer, version=version, opens=False)
    said = (
        r"^MQTT broker 127.0.0.1:\d+ refused the connection: .* \(as no user; check --user, --password-file"
    )
    with pytest.raises(ConfigError, match=said):
        link.open()


def test_a_peer_that_hangs_up_may_want_something_else(connect):
    link = connect(None, opens=False)
    with pytest.raises(SinkError, match=r"without an answer.*\(does it want --tls\?\)$"):
        link.open()


@pytest.mark.parametrize(
    ("module", "answers"), [(link_module, ()), (subscription_module, (ACCEPTED, granted(1)))]
)
def test_silence_is_no_answer(connect, monkeypatch, module, answers):
    monkeypatch.setattr(module, "ANSWER_TIMEOUT_S", 0.05)
    link = connect(*answers, opens=False)
    with pytest.raises(SinkError, match=r"127.0.0.1:\d+ did not answer$"):
        link.open()


def test_an_end_is_said_after_what_was_received_before_it(connect):
    link = connect(ACCEPTED, granted(1), granted(2) + MESSAGE, opens=False)
    link.peer.last_words = SHUTTING_DOWN
    link.open()
    assert [one.topic for one in received_by(link, 1)] == ["t"]
    link.peer.hang_up.set()
    while link.states[-1].is_connected:
        assert link.pump(-1, WAIT_S) == []
    assert link.states[-1].text == "connection lost: ended the connection: Server shutting down"


def test_nobody_listens(connect):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    make = partial(PahoSession, MqttOptions(), client_id="me", resolve=Path, role=LISTENER)
    link = Link([KnownBroker("127.0.0.1", port, "5")], FILTERS, None, make, print)
    with pytest.raises(SinkError, match=re.escape("cannot be reached: Connection refused. Is a broker")):
        link.open()


@pytest.mark.timeout(WAIT_S)
def test_a_wake_ends_the_wait(connect):
    link = connect(ACCEPTED, granted(1), granted(2))
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.send(b"x")
        assert link.pump(ours.fileno(), 1e6) == []

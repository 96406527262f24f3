"""One connection through paho, against a peer on loopback that sends prepared bytes."""

from __future__ import annotations

import socket
import time

import pytest

from edgert.errors import ConfigError, SinkError
from edgert.publish.mqtt import PahoSession
from edgert.publish.options import MqttOptions
from edgert.publish.session import BrokerRefusedError, Limits, Message
from edgert.publish.waker import Waker

TIMEOUT_S = 10.0
FOR_EVER_S = 1e6
ACCEPTED_5 = bytes([0x20, 3, 0, 0, 0])
ACCEPTED_311 = bytes([0x20, 2, 0, 0])


class Peer:
    """Listens; the test itself receives and sends for the broker, so nothing runs beside it."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.socket = None

    def accept(self):
        self.socket, _ = self.listener.accept()
        self.socket.settimeout(TIMEOUT_S)
        return self.receive()

    def send(self, data):
        self.socket.sendall(data)

    def receive(self):
        """Return the next packet, without its first two bytes' meaning taken away."""
        head = self._exactly(2)
        assert head[1] < 0x80, "only short packets"
        return head + self._exactly(head[1])

    def close(self):
        if self.socket is not None:
            self.socket.close()
        self.listener.close()

    def _exactly(self, count):
        data = b""
        while len(data) < count:
            part = self.socket.recv(count - len(data))
            assert part, "the session closed the connection"
            data += part
        return data


class Line:
    """A session and its peer."""

    def __init__(self, tmp_path):
        self.peer = Peer()
        self.waker = Waker()
        self.waker.open()
        self.sessions = []
        self.resolve = tmp_path.joinpath

    def session(self, version="5", **options):
        options = MqttOptions(host="127.0.0.1", port=self.peer.port, **options)
        session = PahoSession(options, version, "edgert-n-1", "edgert/n/state", self.resolve)
        self.sessions.append(session)
        return session

    def connected(self, answer=ACCEPTED_5, **options):
        session = self.session("5" if answer[1] > 2 else "3.1.1", **options)
        session.connect()
        self.peer.accept()
        self.peer.send(answer)
        self.pump(session, lambda: session.is_connected)
        return session

    def pump(self, session, wanted):
        deadline = time.monotonic() + TIMEOUT_S
        while not wanted():
            assert time.monotonic() < deadline
            session.pump(self.waker.fileno(), 0.05)

    def end(self, session):
        """Pump until the session says why it ended."""
        with pytest.raises(SinkError) as caught:
            self.pump(session, lambda: False)
        return caught.value


@pytest.fixture
def line(tmp_path):
    line = Line(tmp_path)
    yield line
    for session in line.sessions:
        session.close()
    line.peer.close()
    line.waker.close()


def test_connect_says_who_it_is_and_leaves_a_will(line, tmp_path):
    (tmp_path / "pw").write_text("hunter2\n")
    session = line.session("3.1.1", user="cam", password_file="pw", keep_alive_s=40)
    session.connect()
    packet = line.peer.accept()
    assert packet[2:9] == b"\x00\x04MQTT\x04"
    assert packet[9] == 0b1110_1110  # user, password, will retained with QoS 1, clean session
    assert int.from_bytes(packet[10:12], "big") == 30  # so that a dead link shows within 1.5 times 40 s
    rest = [b"edgert-n-1", b"edgert/n/state", b"lost", b"cam", b"hunter2"]
    assert packet[12:] == b"".join(len(part).to_bytes(2, "big") + part for part in rest)


@pytest.mark.parametrize(("asked_s", "sent_s"), [(0, 0), (1, 1), (10, 8)])
def test_keep_alive(line, asked_s, sent_s):
    line.session("3.1.1", keep_alive_s=asked_s).connect()
    assert int.from_bytes(line.peer.accept()[10:12], "big") == sent_s


def test_small_messages_are_not_held_back(line):
    session = line.connected()
    assert session._client.socket().getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_the_brokers_limits_are_kept(line):
    properties = bytes([0x21, 0, 7, 0x24, 1, 0x27, 0, 0, 16, 0])  # receive maximum, QoS, packet size
    session = line.connected(bytes([0x20, 3 + len(properties), 0, 0, len(properties)]) + properties)
    assert session.limits == Limits(inflight=7, packet_bytes=4096, qos=1)


def test_without_limits_of_the_broker_ours_hold(line):
    assert line.connected(max_inflight=3).limits.inflight == 3
    assert line.sessions[0].limits.qos == 2


@pytest.mark.parametrize(
    ("version", "answer", "text", "other_version", "final"),
    [
        ("5", [0x20, 2, 0, 1], "Unsupported protocol version", True, False),
        ("5", [0x20, 3, 0, 0x84, 0], "Unsupported protocol version", True, False),
        ("5", [0x20, 3, 0, 0x86, 0], "Bad user name or password (as user 'cam'; check user", False, True),
        ("5", [0x20, 3, 0, 0x87, 0], "Not authorized (as user 'cam'; check user", False, True),
        ("5", [0x20, 3, 0, 0x88, 0], "Server unavailable", False, False),
        ("3.1.1", [0x20, 2, 0, 4], "Bad user name or password (as user 'cam'", False, True),
        ("3.1.1", [0x20, 2, 0, 5], "Not authorized (as user 'cam'", False, True),
        ("3.1.1", [0x20, 2, 0, 3], "Server unavailable", False, False),
    ],
)
def test_a_refusal_is_not_a_connection(line, version, answer, text, other_version, final):
    session = line.session(version, user="cam")
    session.connect()
    line.peer.accept()
    line.peer.send(bytes(answer))
    error = line.end(session)
    assert isinstance(error, BrokerRefusedError)
    assert text in str(error)
    assert (error.try_other_version, error.is_final) == (other_version, final)
    assert not session.is_connected
    assert not session.has_room(0)


def test_a_refused_anonymous_client_is_told_that_it_was_one(line):
    session = line.session("5")
    session.connect()
    line.peer.accept()
    line.peer.send(bytes([0x20, 3, 0, 0x87, 0]))
    assert "as no user" in str(line.end(session))


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_a_peer_that_closes_without_an_answer_may_want_the_older_version(line, version):
    session = line.session(version)
    session.connect()
    line.peer.accept()
    line.peer.socket.close()
    error = line.end(session)
    assert "without an answer" in str(error)
    assert error.try_other_version == (version == "5")


def test_an_absent_broker_is_an_error_that_says_so(line):
    line.peer.listener.close()
    with pytest.raises(SinkError, match="cannot be reached: Connection refused"):
        line.session().connect()


def test_a_password_file_that_is_gone_is_an_error_at_connect(line):
    with pytest.raises(ConfigError, match="pw cannot be read"):
        line.session(user="cam", password_file="pw").connect()


def test_a_message_of_qos_0_is_finished_when_it_is_written(line):
    session = line.connected()
    session.publish(Message("t", b"payload"))
    assert session.unfinished() == []
    assert line.peer.receive() == b"\x30\x0b\x00\x01t\x00payload"


def test_a_message_of_qos_1_is_finished_when_it_is_acknowledged(line):
    session = line.connected(answer=ACCEPTED_311, max_inflight=1)
    message = Message("t", b"p", qos=1, is_retained=True)
    session.publish(message)
    packet = line.peer.receive()
    assert packet[0] == 0x33
    assert (session.unfinished(), session.has_room(1), session.has_room(0)) == ([message], False, True)
    line.peer.send(b"\x40\x02" + packet[5:7])
    line.pump(session, lambda: not session.unfinished())
    settled = session.take_settled()
    assert [(s.message, s.refusal) for s in settled] == [(message, None)]
    assert session.has_room(1)
    assert session.take_settled() == []


def test_a_refused_message_says_why(line):
    session = line.connected()
    session.publish(Message("t", b"p", qos=1))
    packet = line.peer.receive()
    line.peer.send(b"\x40\x03" + packet[5:7] + b"\x87")
    line.pump(session, lambda: not session.unfinished())
    assert session.take_settled()[0].refusal == "Not authorized"


def test_a_topic_that_is_none_is_refused_and_the_connection_stays(line):
    session = line.connected()
    session.publish(Message("a/+", b"p", qos=1))
    session.publish(Message("t", b"p"))
    assert [settled.refusal for settled in session.take_settled()] == [
        "Publish topic cannot contain wildcards."
    ]
    assert line.peer.receive() == b"\x30\x05\x00\x01t\x00p"


def test_a_packet_id_in_flight_is_not_used_again(line):
    session = line.connected()
    first, second = Message("t", b"1", qos=1), Message("t", b"2", qos=1)
    session.publish(first)
    session._client._last_mid = 0  # as after 65,535 messages
    session.publish(second)
    assert session.unfinished() == [first, second]
    assert [line.peer.receive()[5:7] for _ in range(2)] == [b"\x00\x01", b"\x00\x02"]


def test_a_peer_that_reads_slowly_gets_no_second_message(line):
    session = line.connected()
    large = Message("t", b"x" * 30_000_000)
    session.publish(large)
    assert (session.has_room(0), session.unfinished()) == (False, [large])
    line.peer.socket.setblocking(False)

    def drained():
        try:
            while line.peer.socket.recv(1 << 20):
                pass
        except BlockingIOError:
            return session.has_room(0)

    line.pump(session, drained)
    assert session.unfinished() == []


def test_a_broken_connection_keeps_what_it_did_not_deliver(line):
    session = line.connected()
    acknowledged, large = Message("t", b"1", qos=1), Message("t", b"x" * 30_000_000)
    session.publish(acknowledged)
    session.publish(large)
    line.peer.socket.close()
    assert "connection was lost" in str(line.end(session))
    assert session.unfinished() == [acknowledged, large]
    assert not session.has_room(0)
    session.publish(Message("t", b"late"))  # shows at the next pump, which has raised before


@pytest.mark.parametrize(
    ("reason", "text", "final"),
    [(0x8E, "another client has connected as 'edgert-n-1'", True), (0x8B, "Server shutting down", False)],
)
def test_the_brokers_goodbye_says_why(line, reason, text, final):
    session = line.connected()
    line.peer.send(bytes([0xE0, 2, reason, 0]))
    error = line.end(session)
    assert text in str(error)
    assert getattr(error, "is_final", False) == final


def test_goodbye_makes_the_broker_forget_the_will(line):
    session = line.connected()
    session.say_goodbye()
    line.pump(session, session.is_over)
    session.pump(line.waker.fileno(), 0.0)  # does not raise
    assert line.peer.receive()[0] == 0xE0
    assert line.peer.socket.recv(1) == b""


@pytest.mark.timeout(TIMEOUT_S)
def test_a_wake_ends_the_wait(line):
    session = line.connected()
    line.waker.wake()
    session.pump(line.waker.fileno(), FOR_EVER_S)


def test_garbage_ends_the_connection(line):
    session = line.connected()
    line.peer.send(b"\x00\x00\xff\xff")
    assert isinstance(line.end(session), SinkError)

"""One connection through paho, against a peer on loopback that sends prepared bytes."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from edgert.errors import ConfigError, SinkError
from edgert.frames.result import Result, Tensors
from edgert.publish.mqtt import NODE, PahoSession
from edgert.publish.options import MqttOptions, TlsOptions
from edgert.publish.reasons import TlsFailedError
from edgert.publish.role import Remedies, Role
from edgert.publish.session import Attempt, BrokerRefusedError, Limits, Message, Received
from edgert.publish.ticket import Ticket
from edgert.publish.waker import Waker

TICKET = Ticket(1, Result("porch", 0, "m", 1, 0, 1, 1, 1, Tensors({})))
TIMEOUT_S = 10.0
FOR_EVER_S = 1e6
WILL = Message("edgert/n/state", b"lost", qos=1, is_retained=True)
ACCEPTED_5 = bytes([0x20, 3, 0, 0, 0])
ACCEPTED_5_ALIASES = bytes([0x20, 6, 0, 0, 3, 0x22, 0, 2])  # topic alias maximum 2
ACCEPTED_311 = bytes([0x20, 2, 0, 0])


class Peer:
    """Listens; the test itself receives and sends for the broker, so nothing runs beside it."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.socket = None

    def accept(self):
        self.accept_any()
        return self.receive()

    def accept_any(self):
        """Accept a connection, whatever it says."""
        self.socket, _ = self.listener.accept()
        self.socket.settimeout(TIMEOUT_S)

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

    def session(self, version="5", will=WILL, role=NODE, **options):
        attempt = Attempt(version, "127.0.0.1", self.peer.port, will)
        session = PahoSession(MqttOptions(**options), attempt, "edgert-n-1", self.resolve, role)
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


def test_a_broker_is_told_how_much_it_may_send(line):
    line.session().connect()
    packet = line.peer.accept()
    assert packet[12:21] == bytes([8, 0x21, 0, 20, 0x27, 0, 16, 0, 0])  # 20 messages, 1 MiB
    assert packet[9] & 0b10  # clean start


def test_the_will_is_what_the_attempt_says(line):
    will = Message("spBv1.0/g/NDEATH/n", b"\x01\x02", qos=1)
    attempt = Attempt("3.1.1", "127.0.0.1", line.peer.port, will)
    session = PahoSession(MqttOptions(port=1), attempt, "c", line.resolve)
    line.sessions.append(session)
    session.connect()
    packet = line.peer.accept()
    assert packet[9] == 0b0000_1110  # a will of QoS 1 that is not retained, clean session
    assert packet.endswith(b"\0\x12spBv1.0/g/NDEATH/n\0\x02\x01\x02")


def test_properties_go_with_a_message_of_mqtt_5_only(line):
    message = Message(
        "t", b"p", content_type="a/b", expiry_s=60, correlation=b"c", user_properties=(("k", "v"),)
    )
    line.connected().publish(message)
    properties = b"\x02\0\0\0\x3c" + b"\x03\0\x03a/b" + b"\x09\0\x01c" + b"\x26\0\x01k\0\x01v"
    assert line.peer.receive()[2:] == b"\0\x01t" + bytes([len(properties)]) + properties + b"p"


def test_properties_are_left_out_of_mqtt_3_1_1(line):
    line.connected(answer=ACCEPTED_311).publish(Message("t", b"p", content_type="a/b", correlation=b"c"))
    assert line.peer.receive()[2:] == b"\0\x01tp"


def test_a_property_that_is_too_long_is_refused_and_the_connection_stays(line):
    session = line.connected()
    session.publish(Message("t", b"p", qos=1, correlation=b"x" * 65_536))
    assert "65536 bytes; MQTT allows" in session.take_settled()[0].refusal
    session.publish(Message("t", b"p"))
    assert line.peer.receive() == b"\x30\x05\0\x01t\0p"


def test_an_empty_topic_is_refused_and_the_connection_stays(line):
    session = line.connected()
    session.publish(Message("", b"p", qos=1))
    assert session.take_settled()[0].refusal == "The topic is empty."
    assert session.unfinished() == []


@pytest.mark.parametrize("qos", [0, 1])
def test_topics_of_results_are_sent_once_and_then_as_a_number(line, qos):
    session = line.connected(ACCEPTED_5_ALIASES)

    def sent(topic, ticket=TICKET):
        session.publish(Message(topic, b"p", qos=qos, ticket=ticket))
        body = line.peer.receive()[2:]
        size = 2 + int.from_bytes(body[:2], "big")
        return body[2:size], body[size + (2 if qos else 0) : -1]

    assert sent("a") == (b"a", b"\x03\x23\0\x01")
    assert sent("a") == (b"", b"\x03\x23\0\x01")
    assert sent("stats", None) == (b"stats", b"\0")
    assert sent("b") == (b"b", b"\x03\x23\0\x02")
    assert sent("c") == (b"c", b"\0")
    assert sent("b") == (b"", b"\x03\x23\0\x02")


def test_topics_stay_whole_if_the_option_says_so(line):
    session = line.connected(ACCEPTED_5_ALIASES, topic_alias=False)
    for _ in range(2):
        session.publish(Message("a", b"p", ticket=TICKET))
        assert line.peer.receive()[2:] == b"\0\x01a\0p"


def test_a_topic_that_was_refused_has_no_number(line):
    session = line.connected(ACCEPTED_5_ALIASES)
    for _ in range(2):
        session.publish(Message("a/+", b"p", ticket=TICKET))
    assert len(session.take_settled()) == 2
    session.publish(Message("a", b"p", ticket=TICKET))
    assert line.peer.receive()[2:] == b"\0\x01a\x03\x23\0\x01p"


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_a_subscription_asks_for_qos_1(line, version):
    session = line.connected(ACCEPTED_5 if version == "5" else ACCEPTED_311)
    session.subscribe(["a/+", "b"])
    properties = b"\0" if version == "5" else b""
    assert [line.peer.receive()[4:] for _ in range(2)] == [
        properties + b"\0\x03a/+\x01",
        properties + b"\0\x01b\x01",
    ]


def test_messages_arrive_in_order_and_are_acknowledged(line):
    session = line.connected()
    properties = b"\x08\0\x05reply\x09\0\x02id"
    size = bytes([len(properties)])
    line.peer.send(b"\x30" + bytes([5 + len(properties)]) + b"\0\x01a" + size + properties + b"1")
    line.peer.send(b"\x33\x07\0\x01b\0\x09\0" + b"2")
    arrived = []
    line.pump(session, lambda: arrived.extend(session.take_received()) or len(arrived) == 2)
    assert arrived == [
        Received("a", b"1", False, "reply", b"id"),
        Received("b", b"2", True),
    ]
    assert line.peer.receive()[:4] == b"\x40\x02\0\x09"
    assert session.take_received() == []


def test_messages_of_mqtt_3_1_1_have_no_properties(line):
    session = line.connected(answer=ACCEPTED_311)
    line.peer.send(b"\x30\x04\0\x01a1")
    arrived = []
    line.pump(session, lambda: arrived.extend(session.take_received()) or arrived)
    assert arrived == [Received("a", b"1")]


@pytest.mark.parametrize(
    ("accepted", "properties", "code", "why"),
    [(ACCEPTED_5, b"\0", 0x87, "Not authorized"), (ACCEPTED_311, b"", 0x80, "Unspecified error")],
)
def test_a_refused_filter_says_why(line, accepted, properties, code, why):
    session = line.connected(accepted)
    session.subscribe(["a", "b"])
    first, second = (line.peer.receive()[2:4] for _ in range(2))
    for packet_id, granted in ((first, 1), (second, code)):
        suback = packet_id + properties + bytes([granted])
        line.peer.send(bytes([0x90, len(suback)]) + suback)
    refused = []
    line.pump(session, lambda: refused.extend(session.take_refused_filters()) or refused)
    assert refused == [("b", why)]
    assert session.take_refused_filters() == []


def test_a_filter_that_is_none_is_refused_and_the_others_are_asked_for(line):
    session = line.connected()
    session.subscribe(["a#", "b"])
    assert session.take_refused_filters() == [("a#", "Invalid subscription filter.")]
    assert line.peer.receive().endswith(b"\0\x01b\x01")


def test_a_subscription_of_another_qos_is_complete_when_the_broker_has_said_so(line):
    session = line.connected()
    session.subscribe(["a"], qos=0)
    assert not session.is_subscribed()
    asked = line.peer.receive()
    assert asked.endswith(b"\0\x01a\0")
    line.peer.send(b"\x90\x04" + asked[2:4] + b"\0\0")
    line.pump(session, session.is_subscribed)
    assert session.take_refused_filters() == []


def test_a_filter_can_be_given_back(line):
    session = line.connected()
    session.unsubscribe("a")
    packet = line.peer.receive()
    assert (packet[0], packet[-3:]) == (0xA2, b"\0\x01a")


def test_who_has_no_will_leaves_none(line):
    line.session("3.1.1", will=Message("", b"")).connect()
    packet = line.peer.accept()
    assert packet[9] == 0b0000_0010  # clean session
    assert packet[12:] == b"\0\x0aedgert-n-1"


def test_a_role_says_how_much_the_broker_may_send_and_how_much_is_read_at_once(line):
    session = line.session(role=Role(receive_maximum=7, receive_bytes=4096, packets_at_once=2))
    session.connect()
    assert line.peer.accept()[12:21] == bytes([8, 0x21, 0, 7, 0x27, 0, 0, 16, 0])
    line.peer.send(ACCEPTED_5 + b"".join(b"\x30\x05\0\x01a\0" + bytes([n]) for n in range(5)))
    counts = []
    line.pump(session, lambda: counts.append(len(session.take_received())) or sum(counts) == 5)
    assert max(counts) == 2


def test_remedies_are_in_the_words_of_the_role(line):
    session = line.session("3.1.1", role=Role(remedies=Remedies(tls="try --tls")))
    session.connect()
    line.peer.accept()
    line.peer.socket.close()
    assert str(line.end(session)).endswith(" (try --tls)")


def test_a_broker_without_tls_is_told_with_what_to_try(line):
    peer = threading.Thread(target=lambda: (line.peer.accept_any(), line.peer.socket.close()))
    peer.start()
    with pytest.raises(
        TlsFailedError, match=r"^cannot be reached: the other .* \(is this its port for TLS\?"
    ):
        line.session(tls=TlsOptions()).connect()
    peer.join()


def test_a_subscription_after_the_end_shows_at_the_next_pump(line):
    session = line.connected()
    line.peer.socket.close()
    line.end(session)
    session.subscribe(["a"])
    assert session.take_refused_filters() == []


def test_a_message_that_paho_cannot_read_ends_the_connection_with_an_error_of_ours(line):
    session = line.connected()
    line.peer.send(b"\x30\x08\0\x01a\x04\x26\0\x09x")  # a user property that ends too early
    assert isinstance(line.end(session), SinkError)
    assert session.take_received() == []

"""A Sparkplug node on a real broker, with its own connection. Needs mosquitto."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections import deque
from pathlib import Path

import numpy as np
import pytest

from edgert.frames.result import Detections, Result
from edgert.publish.connection import MqttConnection
from edgert.publish.mqtt import PahoSession
from edgert.publish.options import MqttOptions
from edgert.publish.payload import ResultEncoder
from edgert.publish.sparkplug import REBIRTH, SparkplugDialect
from edgert.publish.ticket import Ticket
from tests.fakes.broker import Mosquitto, Subscriber
from tests.fakes.sparkplug_host import Host, encode_command

pytestmark = pytest.mark.system

CLOSE_TIMEOUT_S = 10.0


class Feed:
    """Results in the dialect's words; what a broken connection leaves is said again."""

    def __init__(self, dialect, qos):
        self._dialect = dialect
        self._qos = qos
        self._results = deque()
        self._ready = deque()
        self.is_closed = False
        self.delivered = threading.Semaphore(0)

    def put(self, result):
        self._results.append(result)

    def connected(self, connected_mono_ns, inflight):
        self._connected_ns = connected_mono_ns

    def next_message(self):
        if not self._ready and self._results:
            result = self._results.popleft()
            historical = result.captured_mono_ns < self._connected_ns
            self._ready.extend(self._dialect.result(result, historical=historical, qos=self._qos))
            self._ready[-1].ticket = Ticket(0, result)
        return self._ready.popleft() if self._ready else None

    def next_stored(self):
        return None

    def stored_due_s(self):
        return None

    def take_back(self, messages):
        self._ready.clear()
        self._results.extendleft(message.ticket.result for message in reversed(messages))

    @property
    def is_midway(self):
        return bool(self._ready)

    @property
    def is_finished(self):
        return self.is_closed and not self._ready and not self._results

    def discard(self):
        self._results.clear()

    def handed_over(self, message):
        if not message.qos:
            self.delivered.release()

    def acknowledged(self, message):
        self.delivered.release()


class Node:
    """Edge node `n` of group `plant`. It may lose its connection, and get another at once."""

    def __init__(self, port, protocol="auto", qos=1):
        options = MqttOptions(port=port, protocol=protocol, qos=qos, retry_min_s=0.02, retry_max_s=0.1)
        dialect = SparkplugDialect("plant", "n", ResultEncoder("n", "boot"), {})
        self._feed = Feed(dialect, qos)
        self._options = options
        self._session = None
        self._connection = MqttConnection("m", "n/", options, self._open, self._feed, dialect)
        self._connection.open()

    def send(self, seq, labels=("cat",)):
        output = Detections(np.zeros((1, 4), "f4"), np.array([0.5], "f4"), np.array([seq % 2]), labels)
        now_utc_ns, now_mono_ns = time.time_ns(), time.monotonic_ns()
        self._feed.put(Result("porch", seq, "detector", 1, now_utc_ns, now_mono_ns, 640, 480, output))
        self._connection.wake()

    def wait_delivered(self):
        assert self._feed.delivered.acquire(timeout=CLOSE_TIMEOUT_S)

    def lose_connection(self):
        self._session._client.socket().shutdown(socket.SHUT_RDWR)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._feed.is_closed = True
        self._connection.close(CLOSE_TIMEOUT_S)

    def _open(self, attempt):
        self._session = PahoSession(self._options, attempt, client_id="n", resolve=Path)
        return self._session


class Listener:
    """A host on the broker."""

    def __init__(self, port):
        self.host = Host()
        self.heard = []  # kinds, in order
        self._subscriber = Subscriber(port, "spBv1.0/#")

    def wait_for(self, kind):
        """Return the payload of the next message of a kind; all until then obey the rules."""
        return self._take(self._subscriber.wait_for(lambda message: self._is(message, kind)))

    def ask_for_births(self):
        self._subscriber.publish("spBv1.0/plant/NCMD/n", encode_command(REBIRTH, True))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._subscriber.close()

    def _is(self, message, kind):
        is_wanted = message.topic.split("/")[2] == kind
        if not is_wanted:
            self._take(message)
        return is_wanted

    def _take(self, message):
        kind = message.topic.split("/")[2]
        if kind == "NCMD":
            return None
        self.heard.append(kind)
        return self.host.take(message.topic, message.payload)


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
@pytest.mark.parametrize("qos", [0, 1])
def test_birth_data_and_one_death(tmp_path, protocol, qos):
    with Mosquitto(tmp_path) as broker, Listener(broker.port) as listener:
        with Node(broker.port, protocol, qos) as node:
            listener.wait_for("NBIRTH")
            for seq in range(300):
                node.send(seq, ("cat", "dog"))
            for _ in range(300):
                data = listener.wait_for("DDATA")
            assert json.loads(data["metrics"]["detector/result"]["value"])["seq"] == 299
            assert listener.host.values["porch"]["detector/labels/dog"] == 1
        listener.wait_for("NDEATH")
        assert listener.host.bdseq is None
        with Node(broker.port, protocol, qos):  # were the will still there, it would come before this
            listener.wait_for("NBIRTH")
        assert listener.heard == ["NBIRTH", "DBIRTH", *["DDATA"] * 300, "NDEATH", "NBIRTH"]


def test_the_broker_says_the_death_of_a_lost_connection_and_the_births_follow(tmp_path):
    with Mosquitto(tmp_path) as broker, Listener(broker.port) as listener, Node(broker.port) as node:
        listener.wait_for("NBIRTH")
        node.send(0)
        listener.wait_for("DDATA")
        node.wait_delivered()
        for bdseq in (1, 2):
            node.lose_connection()
            death = listener.wait_for("NDEATH")
            assert death["metrics"]["bdSeq"]["value"] == bdseq - 1
            birth = listener.wait_for("NBIRTH")
            assert birth["metrics"]["bdSeq"]["value"] == bdseq
            assert listener.wait_for("DBIRTH")["metrics"]["detector/labels/cat"]["value"] == 1
        node.send(2)
        assert listener.wait_for("DDATA")["seq"] == 2


def test_a_host_that_came_late_asks_for_the_births(tmp_path):
    with Mosquitto(tmp_path) as broker, Node(broker.port) as node:
        for seq in (0, 2):  # the first may be older than the connection, and so historical
            node.send(seq)
            node.wait_delivered()
        with Listener(broker.port) as listener:
            listener.ask_for_births()
            listener.wait_for("DBIRTH")
            assert listener.heard == ["NBIRTH", "DBIRTH"]
            assert listener.host.values["porch"]["detector/count"] == 1
            node.send(1)
            assert listener.wait_for("DDATA")["seq"] == 3
            assert listener.heard[2:] == ["DBIRTH", "DDATA"]  # a label that was not known

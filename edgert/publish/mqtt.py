"""One connection to an MQTT broker, through paho.

paho is driven by its caller here, without a thread of its own: `publish` writes straight to the socket,
and as long as the socket does not take everything nothing more is handed over, so paho queues one
message at most. A client serves one connection; what it leaves unfinished is handed to the next.
"""

from __future__ import annotations

import select
import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import paho.mqtt.client as paho
from paho.mqtt import MQTTException
from paho.mqtt.enums import CallbackAPIVersion, LogLevel, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.reasoncodes import ReasonCode

from edgert.errors import SinkError
from edgert.publish.cork import cork_socket
from edgert.publish.credentials import read_secret, tls_context, tls_fault
from edgert.publish.inbox import Inbox
from edgert.publish.options import MqttOptions, Resolve
from edgert.publish.properties import TopicAliases, connect_properties, publish_properties
from edgert.publish.reasons import TlsFailedError
from edgert.publish.role import Role
from edgert.publish.session import Attempt, Limits, Message, Received, Settled
from edgert.publish.verdict import Verdict
from edgert.stats import LiveCount

CONNECT_TIMEOUT_S = 5.0  # for the network connection and the TLS handshake, each
KEEP_ALIVE_SHARE = 0.75  # paho needs two of its keep-alives to notice a dead link; two of these are 1.5
NODE = Role()

VERSIONS = {"5": MQTTProtocolVersion.MQTTv5, "3.1.1": MQTTProtocolVersion.MQTTv311}


class PahoSession:
    """A Session. An attempt's will without a topic is none: nobody is told that a listener vanished."""

    live: ClassVar[LiveCount] = LiveCount("broker session")

    def __init__(
        self,
        options: MqttOptions,
        attempt: Attempt,
        client_id: str,
        resolve: Resolve,
        role: Role = NODE,
    ) -> None:
        self.limits = Limits(inflight=options.max_inflight)
        self.is_connected = False
        self._options = options
        self._attempt = attempt
        self._resolve = resolve
        self._role = role
        self._is_v5 = attempt.version == "5"
        self._verdict = Verdict(options, client_id, role.remedies, is_v5=self._is_v5)
        self._client = _client(client_id, attempt.version)
        self._client.on_log = self._on_log
        self._client.on_socket_open = self._on_socket_open
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._verdict.on_disconnect
        self._inbox = Inbox()
        self._client.on_message = self._inbox.on_message
        self._client.on_subscribe = self._inbox.on_subscribe
        self._aliases = TopicAliases(0)
        self._inflight: dict[int, Message] = {}  # QoS 1 and 2, by packet id
        self._writing: Message | None = None  # QoS 0, if the network has not taken all of it
        self._settled: list[Settled] = []
        self._is_parting = False
        self._is_open = False

    def connect(self) -> None:
        """Open the network connection and ask the broker. May block for `CONNECT_TIMEOUT_S`, twice with TLS.

        Raises:
            SinkError: the broker cannot be reached.
            ConfigError: a secret or certificate cannot be read.
        """
        self._set_credentials()
        keep_alive_s = round(self._options.keep_alive_s * KEEP_ALIVE_SHARE)
        if self._options.keep_alive_s:
            keep_alive_s = max(1, keep_alive_s)
        # paho asks properties for `pack` only, and its own class takes sixty times as long for it.
        role, will = self._role, self._attempt.will
        properties: Any = None
        if self._is_v5:
            properties = connect_properties(role.receive_maximum, role.receive_bytes)
        if will.topic:
            self._client.will_set(will.topic, will.payload, will.qos, will.is_retained)
        self._is_open = True
        self.live.opened()
        with _translated("cannot be reached", role.remedies.port):
            host, port = self._attempt.host, self._attempt.port
            self._client.connect(host, port, keep_alive_s, properties=properties)

    def pump(self, wake: int, timeout_s: float) -> None:
        """Wait for the network or for descriptor `wake`, then receive and send what is possible.

        Raises:
            BrokerRefusedError: the broker does not accept the connection.
            SinkError: the connection has ended.
        """
        with _translated("broke"):
            self._exchange(wake, timeout_s)
        if not self._client.want_write():
            self._writing = None
        if self._client.socket() is None and not self._is_parting:
            raise self._verdict.error()

    def has_room(self, qos: int) -> bool:
        """Say whether to `publish`: the last message is out and, for QoS 1 and 2, the window has room."""
        is_free = qos == 0 or len(self._inflight) < self.limits.inflight
        return is_free and self.is_connected and not self.is_over() and not self._client.want_write()

    def publish(self, message: Message) -> None:
        """Send as much of the message as the network takes without blocking; `pump` sends the rest.

        A connection that has ended shows at the next `pump`; the message is then among `unfinished`.
        """
        if message.qos and not self._inflight:
            self._client.on_publish = self._on_publish
        try:
            info = self._offer(message)
        except ValueError as error:  # no topic for publishing
            self._settled.append(Settled(message, str(error)))
            return
        if message.qos:
            self._inflight[info.mid] = message
        elif info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS or not info.is_published():
            self._writing = message

    def cork(self, *, is_corked: bool) -> None:
        """Let the network collect what is published from now on, or send what it has collected."""
        cork_socket(self._client.socket(), is_corked=is_corked)

    def subscribe(self, filters: Sequence[str], qos: int = 1) -> None:
        """Ask for messages of these topic filters. Once the broker has accepted."""
        for topic_filter in filters:
            try:
                _, packet_id = self._client.subscribe(topic_filter, qos)
            except ValueError as error:  # no topic filter
                self._inbox.refused(topic_filter, str(error))
            else:
                self._inbox.asked(packet_id, topic_filter)

    def unsubscribe(self, topic_filter: str) -> None:
        """Ask for no more of this topic filter, without waiting for the broker's word."""
        self._client.unsubscribe(topic_filter)

    def is_subscribed(self) -> bool:
        """Say whether the broker has accepted or refused each filter that was asked for."""
        return self._inbox.is_answered

    def take_received(self) -> list[Received]:
        """Return what has arrived since the last call, in order."""
        return self._inbox.take_received()

    def take_refused_filters(self) -> list[tuple[str, str]]:
        """Return the filters that the broker has refused since the last call, each with its reason."""
        return self._inbox.take_refused()

    def take_settled(self) -> list[Settled]:
        """Return what the broker has said since the last call, in its order."""
        settled, self._settled = self._settled, []
        return settled

    def unfinished(self) -> list[Message]:
        """Return the messages that the broker may not have, in the order of publishing."""
        writing = [self._writing] if self._writing is not None else []
        return [*self._inflight.values(), *writing]

    def say_goodbye(self) -> None:
        """Send DISCONNECT, so that the broker forgets the will. `pump` until `is_over`."""
        self._is_parting = True
        with _translated("broke"):
            self._client.disconnect()

    def is_over(self) -> bool:
        """Say whether the network connection has ended."""
        return self._client.socket() is None

    def close(self) -> None:
        """End the network connection at once. Does not raise; allowed in any state."""
        sock = self._client.socket()
        if sock is not None:
            sock.close()
        if self._is_open:
            self._is_open = False
            self.live.closed()

    def _set_credentials(self) -> None:
        options = self._options
        if options.user is not None:
            place = options.password_file
            password = read_secret(place, self._resolve).reveal() if place else None
            self._client.username_pw_set(options.user, password)
        if options.tls is not None:
            self._client.tls_set_context(tls_context(options.tls, self._resolve))

    def _offer(self, message: Message) -> paho.MQTTMessageInfo:
        """Hand to paho. Raises ValueError for what cannot be published."""
        if not message.topic:
            raise ValueError("The topic is empty.")
        topic, alias = message.topic, 0
        if message.ticket is not None:
            topic, alias = self._aliases.find(topic)
        properties: Any = publish_properties(message, alias) if self._is_v5 else None
        while True:
            info = self._client.publish(topic, message.payload, message.qos, message.is_retained, properties)
            if info.rc != MQTTErrorCode.MQTT_ERR_QUEUE_SIZE:
                break
            # The packet id is still in flight, 65,535 messages later; the next one is not.
        if topic and alias:
            self._aliases.sent(topic, alias)
        return info

    def _exchange(self, wake: int, timeout_s: float) -> None:
        """Let paho receive, send and look after its keep-alive. Its return codes show as a closed socket."""
        for taken in range(self._role.packets_at_once):
            if not self._wait(wake, 0.0 if taken else timeout_s):
                break
            self._client.loop_read()
        if self._client.want_write():
            self._client.loop_write()
        self._client.loop_misc()

    def _wait(self, wake: int, timeout_s: float) -> bool:
        """Return whether there is something to receive; a negative `wake` is none."""
        sock: Any = self._client.socket()
        if sock is None:
            return False
        if isinstance(sock, ssl.SSLSocket) and sock.pending():  # decrypted, so the descriptor is silent
            return True
        poll = select.poll()
        poll.register(sock, select.POLLIN | (select.POLLOUT if self._client.want_write() else 0))
        if wake >= 0:
            poll.register(wake, select.POLLIN)
        ready = dict(poll.poll(timeout_s * 1000))
        return bool(ready.get(sock.fileno(), 0) & ~select.POLLOUT)

    def _on_socket_open(self, _client: Any, _data: Any, sock: Any) -> None:
        # A result must not wait until the broker's host has acknowledged the one before (Nagle).
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _on_log(self, _client: Any, _data: Any, level: int, text: str) -> None:
        if level == LogLevel.MQTT_LOG_ERR:
            self._verdict.failed(text)

    def _on_connect(self, _client: Any, _data: Any, _flags: Any, reason: ReasonCode, properties: Any) -> None:
        self._client.on_log = None  # it would be called for every message
        self._verdict.answered(reason)
        self.is_connected = not reason.is_failure
        self.limits = Limits(
            inflight=min(self._options.max_inflight, getattr(properties, "ReceiveMaximum", 65_535)),
            packet_bytes=getattr(properties, "MaximumPacketSize", self.limits.packet_bytes),
            qos=getattr(properties, "MaximumQoS", self.limits.qos),
        )
        if self._options.topic_alias:
            self._aliases = TopicAliases(getattr(properties, "TopicAliasMaximum", 0))

    def _on_publish(
        self, client: paho.Client, _data: Any, mid: int, reason: ReasonCode, _properties: Any
    ) -> None:
        """Note an acknowledgement. Set only while one is due: paho builds two objects for each call."""
        message = self._inflight.pop(mid, None)
        if message is not None:
            self._settled.append(Settled(message, str(reason) if reason.is_failure else None))
        if not self._inflight:
            client.on_publish = None


def _client(client_id: str, version: str) -> paho.Client:
    client = paho.Client(
        CallbackAPIVersion.VERSION2,
        client_id,
        protocol=VERSIONS[version],
        reconnect_on_failure=False,  # also keeps paho from falling back to MQTT 3.1 by itself
    )
    client.connect_timeout = CONNECT_TIMEOUT_S
    client.max_inflight_messages = 0  # no window of paho's: `has_room` is the window
    return client


@contextmanager
def _translated(what: str, remedy: str = "") -> Iterator[None]:
    """Raise SinkError for what paho and the network raise. `remedy`: what to try if TLS is not spoken."""
    try:
        yield
    except ssl.SSLError as error:
        raise TlsFailedError(f"{what}: {tls_fault(error, remedy)}") from error
    except (OSError, ValueError, MQTTException) as error:
        raise SinkError(f"{what}: {getattr(error, 'strerror', None) or error}") from error

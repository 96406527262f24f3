"""One connection to a broker that only listens, through paho, driven by its caller without a thread."""

from __future__ import annotations

import select
import ssl
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import paho.mqtt.client as paho
from paho.mqtt import MQTTException
from paho.mqtt.enums import CallbackAPIVersion, LogLevel, MQTTProtocolVersion
from paho.mqtt.reasoncodes import ReasonCode

from edgert.errors import ConfigError, EdgertError, SinkError
from edgert.publish.credentials import distrust, read_secret, tls_context
from edgert.publish.options import MqttOptions, Resolve, shown_address
from edgert.publish.reasons import CREDENTIAL_REFUSALS, VERSION_REFUSALS
from edgert.publish.session import BrokerRefusedError, Received
from edgert.stats import LiveCount

CONNECT_TIMEOUT_S = 5.0  # for the network connection and the TLS handshake, each
ANSWER_TIMEOUT_S = 5.0  # for the broker's word on CONNECT and SUBSCRIBE
KEEP_ALIVE_SHARE = 0.75  # paho needs two of its keep-alives to notice a dead link; two of these are 1.5
QOS = 0  # a slow listener shall not make the broker keep messages for it
MOST_AT_ONCE = 1000  # messages that one `pump` takes from the network

VERSIONS = {"5": MQTTProtocolVersion.MQTTv5, "3.1.1": MQTTProtocolVersion.MQTTv311}


class Subscription:
    """A connection, from CONNECT to the end. Used by one thread. `close` it after `open`, raised or not."""

    live: ClassVar[LiveCount] = LiveCount("broker subscription")

    def __init__(
        self, host: str, port: int, version: str, options: MqttOptions, client_id: str, resolve: Resolve
    ) -> None:
        self.refused_filters: list[str] = []
        self._host = host
        self._port = port
        self._options = options
        self._resolve = resolve
        self._is_v5 = version == "5"
        self._client = _client(client_id, version)
        self._client.on_log = self._on_log
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message
        self._answer: ReasonCode | None = None  # to CONNECT
        self._granted: list[ReasonCode] | None = None  # by filter
        self._ending: ReasonCode | None = None  # the broker's DISCONNECT
        self._trouble = ""  # what paho logged as an error before the broker's answer
        self._received: list[Received] = []
        self._is_open = False

    def open(self, filters: Sequence[str]) -> None:
        """Connect and subscribe. May block for the timeouts above.

        Raises:
            SinkError: the broker cannot be reached.
            BrokerRefusedError: it does not accept the connection, or none of the filters.
            ConfigError: it does not accept the credentials, or a secret or certificate cannot be read.
        """
        self._set_credentials()
        keep_alive_s = round(self._options.keep_alive_s * KEEP_ALIVE_SHARE)
        self._is_open = True
        self.live.opened()
        with _translated("cannot be reached"):
            self._client.connect(
                self._host, self._port, max(keep_alive_s, min(1, self._options.keep_alive_s))
            )
        self._await(lambda: self._answer is not None)
        if self._answer is not None and self._answer.is_failure:
            raise self._refusal(self._answer)
        self._subscribe(filters)

    def pump(self, wake: int, timeout_s: float) -> list[Received]:
        """Wait for the network or for descriptor `wake`, and return what has arrived, in order.

        Raises:
            SinkError: the connection has ended.
        """
        with _translated("broke"):
            self._exchange(wake, 0.0 if self._received else timeout_s)  # some came with the broker's answer
        received, self._received = self._received, []
        if self._client.socket() is None and not received:
            raise self._end()
        return received

    def close(self) -> None:
        """Say goodbye, if there is somebody, and end. Does not raise; allowed in any state."""
        sock = self._client.socket()
        if sock is not None:
            self._client.on_message = None
            self._client.disconnect()
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

    def _subscribe(self, filters: Sequence[str]) -> None:
        with _translated("broke"):
            self._client.subscribe([(topic, QOS) for topic in filters])
        self._await(lambda: self._granted is not None)
        answers = zip(filters, self._granted or (), strict=False)
        self.refused_filters = [topic for topic, code in answers if code.is_failure]
        if len(self.refused_filters) == len(filters):
            raise BrokerRefusedError(
                f"lets {self._who()} read none of {', '.join(filters)}; check its access list", is_final=True
            )

    def _await(self, is_there: Any) -> None:
        """Wait for an answer; what else arrives is kept for `pump`."""
        deadline = time.monotonic() + ANSWER_TIMEOUT_S
        while not is_there():
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                # Some brokers that speak 3.1.1 only read MQTT 5 as the beginning of something longer.
                raise BrokerRefusedError("did not answer", try_other_version=self._is_v5)
            with _translated("broke"):
                self._exchange(-1, left_s)
            if self._client.socket() is None and not is_there():
                raise self._end()

    def _exchange(self, wake: int, timeout_s: float) -> None:
        """Let paho receive, send and look after its keep-alive. Its return codes show as a closed socket."""
        if self._wait(wake, timeout_s):
            self._client.loop_read()
        for _ in range(MOST_AT_ONCE):
            if not self._wait(-1, 0.0):
                break
            self._client.loop_read()
        if self._client.want_write():
            self._client.loop_write()
        self._client.loop_misc()

    def _wait(self, wake: int, timeout_s: float) -> bool:
        """Return whether there is something to receive."""
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

    def _end(self) -> SinkError:
        """Say why the connection ended."""
        if self._answer is None:
            text = f"closed the connection without an answer{self._trouble}{self._guess()}"
            return BrokerRefusedError(text, try_other_version=self._is_v5)
        if self._ending is not None:
            return SinkError(f"ended the connection: {self._ending}")
        return SinkError("the connection was lost")

    def _refusal(self, answer: ReasonCode) -> EdgertError:
        if answer.value in CREDENTIAL_REFUSALS:
            place = shown_address(self._host, self._port)
            return ConfigError(
                f"MQTT broker {place} refused the connection: {answer} (as {self._who()}; "
                "check --user, --password-file and the broker's access list)"
            )
        return BrokerRefusedError(
            f"refused the connection: {answer}",
            try_other_version=self._is_v5 and answer.value in VERSION_REFUSALS,
        )

    def _guess(self) -> str:
        tls = self._options.tls
        if tls is None:
            return " (does it want --tls?)"
        return "" if tls.certificate_file else " (does it want --certificate-file?)"

    def _who(self) -> str:
        return "no user" if self._options.user is None else f"user {self._options.user!r}"

    def _on_log(self, _client: Any, _data: Any, level: int, text: str) -> None:
        if level == LogLevel.MQTT_LOG_ERR:
            self._trouble = f" ({text})"

    def _on_connect(self, _client: Any, _data: Any, _flags: Any, reason: ReasonCode, _props: Any) -> None:
        self._client.on_log = None  # it would be called for every message
        self._answer = reason

    def _on_disconnect(self, _client: Any, _data: Any, flags: Any, reason: ReasonCode, _props: Any) -> None:
        if flags.is_disconnect_packet_from_server:
            self._ending = reason

    def _on_subscribe(
        self, _client: Any, _data: Any, _mid: int, codes: list[ReasonCode], _props: Any
    ) -> None:
        self._granted = codes

    def _on_message(self, _client: Any, _data: Any, message: paho.MQTTMessage) -> None:
        self._received.append(Received(message.topic, bytes(message.payload), message.retain))


def _client(client_id: str, version: str) -> paho.Client:
    client = paho.Client(
        CallbackAPIVersion.VERSION2,
        client_id,
        protocol=VERSIONS[version],
        reconnect_on_failure=False,  # also keeps paho from falling back to MQTT 3.1 by itself
    )
    client.connect_timeout = CONNECT_TIMEOUT_S
    return client


@contextmanager
def _translated(what: str) -> Iterator[None]:
    try:
        yield
    except ssl.SSLCertVerificationError as error:
        raise SinkError(f"{what}: {distrust(error)}") from error
    except (OSError, ValueError, MQTTException) as error:
        raise SinkError(f"{what}: {getattr(error, 'strerror', None) or error}") from error

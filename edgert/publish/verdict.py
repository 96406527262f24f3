"""What a broker says of one connection: whether it accepts, and why it ends."""

from __future__ import annotations

from typing import Any

from edgert.errors import SinkError
from edgert.publish import reasons
from edgert.publish.options import MqttOptions
from edgert.publish.role import Remedies
from edgert.publish.session import BrokerRefusedError


class Verdict:
    """Takes paho's callbacks, on the connection's thread."""

    def __init__(self, options: MqttOptions, client_id: str, remedies: Remedies, *, is_v5: bool) -> None:
        self._options = options
        self._client_id = client_id
        self._remedies = remedies
        self._is_v5 = is_v5
        self._answer: Any = None  # paho's reason code, to CONNECT
        self._ending: Any = None  # and the broker's DISCONNECT
        self._trouble = ""

    def answered(self, reason: Any) -> None:
        """Note the CONNACK."""
        self._answer = reason

    def failed(self, text: str) -> None:
        """Note what went wrong before the broker's answer."""
        self._trouble = f" ({text})"

    def on_disconnect(self, _client: Any, _data: Any, flags: Any, reason: Any, _properties: Any) -> None:
        """Note a DISCONNECT, which only MQTT 5 has."""
        if flags.is_disconnect_packet_from_server:
            self._ending = reason

    def error(self) -> SinkError:
        """Say why the connection has ended."""
        if self._answer is None:
            text = f"closed the connection without an answer{self._trouble}{self._guess()}"
            return BrokerRefusedError(text, try_other_version=self._is_v5)
        if self._answer.is_failure:
            code, user, remedy = self._answer.value, self._options.user, self._remedies.credentials
            return reasons.refusal(code, str(self._answer), user, remedy, is_v5=self._is_v5)
        if self._ending is None:
            return SinkError("the connection was lost")
        return reasons.parting(self._ending.value, str(self._ending), self._client_id)

    def _guess(self) -> str:
        tls, remedies = self._options.tls, self._remedies
        if tls is None:
            return f" ({remedies.tls})"
        if tls.certificate_file:
            return ""
        return f" ({remedies.psk if tls.psk_file else remedies.certificate})"

"""The `[sinks.<name>]` tables of a pipeline file. `type` says which."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta

from edgert.config import Options
from edgert.errors import ConfigError
from edgert.publish import topics
from edgert.publish.encodings import Encoding
from edgert.publish.filters import FilterOptions
from edgert.publish.home_assistant import HomeAssistantOptions

Resolve = Callable[[str], Path]  # makes a path of the pipeline file relative to that file

Queue = Annotated[int, Meta(ge=1, le=1_000_000)]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]

BROKER = re.compile(r"(?:\[(?P<ipv6>[^\[\]/\s]+)\]|(?P<name>[^\[\]:/\s]+))(?::(?P<port>\d{1,5}))?")
TAP_ENDPOINT = re.compile(r"pub\+(?P<verb>bind|connect):(?P<address>(?:tcp|ipc)://.+)")


class TlsOptions(Options, frozen=True, kw_only=True):
    """`[sinks.<name>.tls]`: its presence turns TLS on. The broker's certificate is always verified."""

    ca_file: str | None = None  # PEM; None: the authorities that the system trusts
    certificate_file: str | None = None  # PEM, shown to a broker that asks for one
    key_file: str | None = None  # PEM, without a passphrase; None: it stands in certificate_file
    alpn: tuple[str, ...] = ()  # protocols to offer, for a broker that shares its port, e.g. ["mqtt"]
    # A key that both sides know instead of certificates, which are not looked at then. Python 3.13 or later.
    psk_identity: str | None = None
    psk_file: str | None = None  # its first line is the key in hexadecimal digits; found as a password_file

    def __post_init__(self) -> None:
        if self.key_file and not self.certificate_file:
            raise ValueError("key_file needs a certificate_file")
        if bool(self.psk_identity) != bool(self.psk_file):
            raise ValueError("psk_identity and psk_file need each other")
        if self.psk_file and (self.ca_file or self.certificate_file):
            raise ValueError(
                "psk_file takes the place of ca_file and certificate_file; give one or the other"
            )
        for protocol in self.alpn:
            if not protocol.isascii() or not 1 <= len(protocol) <= 255:
                raise ValueError(f"alpn {protocol!r} is not 1 to 255 characters of ASCII")


class SpoolOptions(Options, frozen=True, kw_only=True):
    """`[sinks.<name>.spool]`: results on disk while the broker is away. It needs QoS 1 or 2."""

    path: str | None = None  # None: spool/<node>-<sink>.db in systemd's StateDirectory=, or in the XDG folder
    max_mb: Annotated[int, Meta(ge=1, le=1_000_000)] = 64  # then the oldest are dropped
    ttl_s: Annotated[float, Meta(gt=0, le=31_536_000)] = 604_800.0  # older ones are dropped
    flush_s: Annotated[float, Meta(ge=0.05, le=60)] = 1.0  # what is lost at most if the power fails meanwhile
    replay_per_s: Annotated[float, Meta(gt=0, le=100_000)] = 500.0  # stored results, beside all live ones


class SparkplugOptions(Options, frozen=True, kw_only=True):
    """`[sinks.<name>.sparkplug]`: its presence makes the sink speak Sparkplug B, and nothing else."""

    group: str
    node: str | None = None  # None: the pipeline's

    def __post_init__(self) -> None:
        try:
            topics.check_name(self.group, "group")
            if self.node is not None:
                topics.check_name(self.node, "node")
        except ConfigError as error:
            raise ValueError(str(error)) from None


class MqttOptions(Options, frozen=True, kw_only=True, tag_field="type", tag="mqtt"):
    """Results, states and statistics to an MQTT broker."""

    host: Annotated[str, Meta(min_length=1)] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65_535)] = 0  # 0: 1883, with TLS 8883
    # "host", "host:port" or "[IPv6 address]:port", tried in this order after `host` on every (re)connect. One
    # of them is used until it fails, also if `host` is back before.
    brokers: tuple[str, ...] = ()
    tls: TlsOptions | None = None
    user: str | None = None
    # A file whose first line is the password, read at every connect. A bare name is looked for in
    # $CREDENTIALS_DIRECTORY (systemd's LoadCredential=) first.
    password_file: str | None = None
    client_id: Annotated[str, Meta(min_length=1, max_length=256)] | None = None  # None: edgert-<node>-<8 hex>
    protocol: Literal["auto", "5", "3.1.1"] = "auto"  # auto: 5, then 3.1.1 if the broker refuses 5
    qos: Literal[0, 1, 2] = 0  # of results; states are sent with 1
    max_inflight: Annotated[int, Meta(ge=1, le=65_535)] = 20  # unacknowledged messages of QoS 1 and 2
    queue: Queue = 1000  # results held while the broker is away or slow; then the oldest are dropped
    keep_alive_s: Annotated[int, Meta(ge=0, le=65_535)] = 30  # a dead link shows within 1.5 of it; 0: never
    retry_min_s: Seconds = 1.0  # wait before the first reconnect, doubled each time, with jitter
    retry_max_s: Seconds = 30.0  # the longest wait, also after a refusal
    topic_root: str = "edgert"
    topic_alias: bool = True  # where the broker allows, topics of results are sent once and then as a number
    expiry_s: Annotated[int, Meta(ge=0, le=4_294_967_294)] = 0  # then the broker drops a result; 0: never
    encoding: Encoding = "json"
    filter: FilterOptions | None = None  # absent: everything
    spool: SpoolOptions | None = None  # absent: the queue is all that waits
    sparkplug: SparkplugOptions | None = None  # instead of edgert's topics and encoding
    home_assistant: HomeAssistantOptions | None = None

    def __post_init__(self) -> None:
        if self.sparkplug is not None and (self.encoding != "json" or self.home_assistant is not None):
            raise ValueError("sparkplug has an encoding of its own; Home Assistant needs a sink without it")
        if self.home_assistant is not None and self.encoding != "json":
            raise ValueError(f"home_assistant needs encoding json; it cannot read {self.encoding}")
        if self.retry_max_s < self.retry_min_s:
            raise ValueError(f"retry_max_s {self.retry_max_s} is less than retry_min_s {self.retry_min_s}")
        if self.spool is not None and self.qos == 0:
            raise ValueError("spool needs qos 1 or 2: with 0 the broker does not say what it has")
        if self.password_file and self.user is None:
            raise ValueError("password_file needs a user")
        for text in self.brokers:
            _address(text)
        try:
            topics.prefix(self.topic_root, "node")
        except ConfigError as error:
            raise ValueError(str(error)) from None

    @property
    def address(self) -> tuple[str, int]:
        """Host and port with the default filled in."""
        return self.host, self.port or self._default_port

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Host and port of all brokers, in the order in which they are tried."""
        others = [(host, port or self._default_port) for host, port in map(_address, self.brokers)]
        return [self.address, *others]

    @property
    def _default_port(self) -> int:
        return 8883 if self.tls else 1883


class LinesOptions(Options, frozen=True, kw_only=True, tag_field="type", tag="lines"):
    """Results as JSON lines."""

    path: str | None = None  # appended to, also after logrotate has moved it; None: standard output
    queue: Queue = 1000  # results held while the reader is slow; then the oldest are dropped
    encoding: Literal["json", "deepstream_minimal", "deepstream_full"] = "json"
    filter: FilterOptions | None = None  # absent: everything


class TapOptions(Options, frozen=True, kw_only=True, tag_field="type", tag="tap"):
    """Sampled frames, pixels with results, to ZeroMQ subscribers: for previews and calibration."""

    endpoint: str = "pub+bind:tcp://127.0.0.1:5602"  # or ipc; another host only if it is written out
    frames_per_s: Annotated[float, Meta(ge=0, le=1000)] = 1.0  # of each source; 0: every frame
    queue: Annotated[int, Meta(ge=1, le=1000)] = 4  # frames held for slow subscribers, whole pictures each

    def __post_init__(self) -> None:
        found = TAP_ENDPOINT.fullmatch(self.endpoint)
        if not found:
            raise ValueError(
                f"endpoint {self.endpoint!r} is not pub+bind: or pub+connect: and a tcp:// or ipc:// address"
            )
        if found["address"].startswith("tcp://*"):
            raise ValueError(
                f"endpoint {self.endpoint!r} opens every interface; name the host, e.g. tcp://127.0.0.1:5602"
            )


SinkOptions = MqttOptions | LinesOptions | TapOptions


def shown_address(host: str, port: int) -> str:
    """Return `host:port` as it stands in logs and in `brokers`."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _address(text: str) -> tuple[str, int]:
    found = BROKER.fullmatch(text)
    port = int(found["port"] or 0) if found else 0
    if not found or port > 65_535 or (found["port"] and not port):
        raise ValueError(f"brokers: {text!r} is not host, host:port or [IPv6 address]:port")
    return found["ipv6"] or found["name"], port

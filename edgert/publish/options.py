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

Resolve = Callable[[str], Path]  # makes a path of the pipeline file relative to that file

Queue = Annotated[int, Meta(ge=1, le=1_000_000)]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]

TAP_ENDPOINT = re.compile(r"pub\+(?P<verb>bind|connect):(?P<address>(?:tcp|ipc)://.+)")


class TlsOptions(Options, frozen=True, kw_only=True):
    """`[sinks.<name>.tls]`: its presence turns TLS on. The broker's certificate is always verified."""

    ca_file: str | None = None  # PEM; None: the authorities that the system trusts
    certificate_file: str | None = None  # PEM, shown to a broker that asks for one
    key_file: str | None = None  # PEM, without a passphrase; None: it stands in certificate_file

    def __post_init__(self) -> None:
        if self.key_file and not self.certificate_file:
            raise ValueError("key_file needs a certificate_file")


class MqttOptions(Options, frozen=True, kw_only=True, tag_field="type", tag="mqtt"):
    """Results, states and statistics to an MQTT broker."""

    host: Annotated[str, Meta(min_length=1)] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65_535)] = 0  # 0: 1883, with TLS 8883
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

    def __post_init__(self) -> None:
        if self.retry_max_s < self.retry_min_s:
            raise ValueError(f"retry_max_s {self.retry_max_s} is less than retry_min_s {self.retry_min_s}")
        if self.password_file and self.user is None:
            raise ValueError("password_file needs a user")
        try:
            topics.prefix(self.topic_root, "node")
        except ConfigError as error:
            raise ValueError(str(error)) from None

    @property
    def address(self) -> tuple[str, int]:
        """Host and port with the default filled in."""
        return self.host, self.port or (8883 if self.tls else 1883)


class LinesOptions(Options, frozen=True, kw_only=True, tag_field="type", tag="lines"):
    """Results as JSON lines."""

    path: str | None = None  # appended to, also after logrotate has moved it; None: standard output
    queue: Queue = 1000  # results held while the reader is slow; then the oldest are dropped


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

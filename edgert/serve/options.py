"""The `[serve]` table of a pipeline file. It listens where `[http]` says."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from edgert.config import Options
from edgert.errors import ConfigError

Positive = Annotated[float, msgspec.Meta(gt=0)]
Count = Annotated[int, msgspec.Meta(ge=1)]
Metric = Literal["summaries", "histograms"]
READ_COST = 10  # bytes of memory that a byte of JSON or of a text tensor takes once it is read


class TlsOptions(Options, frozen=True, kw_only=True):
    """Certificates for HTTP and gRPC alike, PEM files."""

    certificate: str  # of this server, with its chain
    key: str
    client_ca: str = ""  # then a client must show a certificate that it signed


class GrpcOptions(Options, frozen=True, kw_only=True):
    """Where gRPC listens."""

    host: str = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 8001  # 0: any free one, named in the log
    control: bool = False  # answer load and unload of models; whoever reaches the port may then do it


class LimitOptions(Options, frozen=True, kw_only=True):
    """What clients may not exceed."""

    request_mb: Count = 64  # one request, head and body
    bodies_mb: Count = 256  # all requests that are not answered yet; JSON and texts count tenfold
    json_mb: Count = 16  # JSON, typed contents or texts of one request
    headers: Count = 64
    header_kb: Count = 32  # of all headers of a request
    connections: Count = 256
    requests: Count = 256  # under way at once, over all clients
    arrive_s: Positive = 30.0  # for a whole request to arrive, and for its answer to be taken
    idle_s: Positive = 300.0  # of a connection between requests
    answer_s: Positive = 300.0  # an inference that takes longer is given up

    def check(self) -> None:
        """See that the largest request has room. Raises ConfigError, beginning with the key."""
        needed_mb = self.request_mb + READ_COST * min(self.json_mb, self.request_mb)
        if self.bodies_mb < needed_mb:
            raise ConfigError(
                f"limits.bodies_mb = {self.bodies_mb}: expected at least {needed_mb}, for one request of "
                f"request_mb = {self.request_mb} whose json_mb = {self.json_mb} count {READ_COST} times"
            )


class ServeOptions(Options, frozen=True, kw_only=True):
    """The Inference Server's front."""

    mode: Literal["none", "explicit", "poll"] = (
        "none"  # none: all of the store, once; poll: follow its changes
    )
    load: tuple[str, ...] = ()  # explicit: the models to load at the start; "*": all
    poll_s: Positive = 15.0
    exit_on_error: bool = False  # end the start where a model cannot be loaded
    cache_mb: Annotated[int, msgspec.Meta(ge=0)] = 0  # for responses of models with response_cache; 0: none
    rate_limit: bool = False  # heed instance_group.rate_limiter
    shared_memory: bool = True  # clients on this machine may hand tensors over in it
    token: str = ""  # file, or credential, with the bearer token that every request must carry
    metrics: tuple[Metric, ...] = ()  # beside the counters
    tls: TlsOptions | None = None
    grpc: GrpcOptions | None = None  # absent: no gRPC
    limits: LimitOptions = LimitOptions()

    def named_at_start(self, models: Sequence[str]) -> Sequence[str]:
        """Return which of the store's models are served from the start."""
        if self.mode != "explicit" or "*" in self.load:
            return models
        return tuple(dict.fromkeys(self.load))

    def secrets(self) -> dict[str, str]:
        """Return the places of token and certificates that are given, by key."""
        named = {"token": self.token}
        if (tls := self.tls) is not None:
            named |= {"tls.certificate": tls.certificate, "tls.key": tls.key, "tls.client_ca": tls.client_ca}
        return {key: place for key, place in named.items() if place}

    def check(self, resolve: Callable[[str], Path], models: Collection[str]) -> None:
        """See that what is named is there. Raises ConfigError, beginning with the key."""
        if self.load and self.mode != "explicit":
            raise ConfigError(f'load: given with mode = "{self.mode}", expected mode = "explicit"')
        for name in self.load:
            if name != "*" and name not in models:
                raise ConfigError(
                    f"load: {name!r} is not in the store; there is {', '.join(models) or 'none'}"
                )
        self.limits.check()
        for key, value in self.secrets().items():
            if not resolve(value).is_file():
                raise ConfigError(f"{key} = {value!r}: there is no file {resolve(value)}")

"""Where a pipeline file listens, and where two of its parts would listen at one place."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import msgspec

from edgert.errors import ConfigError
from edgert.pipeline.options import PipelineOptions
from edgert.publish.options import TAP_ENDPOINT, TapOptions

_WILDCARDS = ("0.0.0.0", "::")  # noqa: S104 - looked for, not bound


class Listener(msgspec.Struct, frozen=True):
    """A TCP port that a part opens."""

    key: str  # of the pipeline file
    host: str
    port: int

    def meets(self, other: Listener) -> bool:
        """Say whether only one of the two can have its port."""
        if self.port != other.port:
            return False
        is_one_family = (":" in self.host) == (":" in other.host)
        is_any = self.host in _WILDCARDS or other.host in _WILDCARDS
        return self.host == other.host or (is_one_family and is_any)


def listeners_of(options: PipelineOptions) -> list[Listener]:
    """Return what listens; ports that are chosen at the start are left out."""
    found = [] if options.http is None else [Listener("http.port", options.http.host, options.http.port)]
    if options.serve is not None and options.serve.grpc is not None:
        grpc = options.serve.grpc
        found.append(Listener("serve.grpc.port", grpc.host, grpc.port))
    for key, address in _bound(options):
        host, _, port = address.removeprefix("tcp://").rpartition(":")
        found.append(Listener(key, host.strip("[]"), int(port) if port.isdecimal() else 0))
    return [Listener(own.key, _plain(own.host), own.port) for own in found if own.port]


def listener_problems(options: PipelineOptions) -> Iterator[ConfigError]:
    """Yield every two parts that would listen at one place; the text begins with the key."""
    for first, second in combinations(listeners_of(options), 2):
        if first.meets(second):
            yield ConfigError(
                f"{second.key}: {second.host}:{second.port} is where {first.key} listens "
                f"({first.host}:{first.port}); give it another port"
            )


def _bound(options: PipelineOptions) -> Iterator[tuple[str, str]]:
    """Yield the key and the address of every ZeroMQ socket that is bound to TCP."""
    for name, source in options.sources.items():
        try:
            spec = source.spec()
        except ConfigError:  # told with the source
            continue
        if spec.binds and spec.target.startswith("tcp://"):
            yield f"sources.{name}.uri", spec.target
    for name, sink in options.sinks.items():
        found = TAP_ENDPOINT.fullmatch(sink.endpoint) if isinstance(sink, TapOptions) else None
        if found and found["verb"] == "bind" and found["address"].startswith("tcp://"):
            yield f"sinks.{name}.endpoint", found["address"]


def _plain(host: str) -> str:
    """Return an address for names that all machines give it."""
    return {"localhost": "127.0.0.1", "*": "0.0.0.0", "": "0.0.0.0"}.get(host, host)  # noqa: S104

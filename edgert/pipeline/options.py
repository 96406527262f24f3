"""The tables of a pipeline file."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from edgert.capture.options import SourceOptions
from edgert.config import Options
from edgert.control.options import ControlOptions
from edgert.publish.options import SinkOptions
from edgert.serve.options import ServeOptions

Seconds = Annotated[float, msgspec.Meta(ge=0)]
Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]


class HttpOptions(Options, frozen=True, kw_only=True):
    """Health, metrics and, if allowed, model control."""

    host: str = "127.0.0.1"
    port: Port = 8000  # 0: any free one, named in the log
    control: bool = False  # answer load and unload of models; whoever reaches the port may then do it


class ServiceOptions(Options, frozen=True, kw_only=True):
    """How the process behaves."""

    drain_s: Seconds = 5.0  # how long a stop waits for work in flight
    hang_s: Annotated[float, msgspec.Meta(gt=0)] = 30.0  # a part with work and no progress for so long hangs
    load_s: Annotated[float, msgspec.Meta(gt=0)] = 600.0  # and so does a model that loads for so long
    stats_s: Seconds = 10.0  # how often statistics are published; 0: never
    log: Literal["text", "json"] = "text"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    memory_mb: Annotated[int, msgspec.Meta(ge=0)] = 0  # budget for slots, tensors and engines; 0: no limit
    memory: Literal["", "mapped", "registered", "managed", "staged"] = ""  # of slots; empty: by the device


class PipelineOptions(Options, frozen=True, kw_only=True):
    """A whole pipeline file. Paths are relative to its folder."""

    node: str  # this computer's name in topics
    store: str  # folder of the model store
    sources: dict[str, SourceOptions] = {}
    sinks: dict[str, SinkOptions] = {}
    models: dict[str, dict[str, Any]] = {}  # overrides of a model's edgert.toml
    http: HttpOptions | None = None  # absent: nothing listens
    control: ControlOptions | None = None  # absent: no command is heard
    serve: ServeOptions | None = None  # absent: no client may ask for an inference
    service: ServiceOptions = ServiceOptions()

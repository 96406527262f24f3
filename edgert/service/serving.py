"""The Inference Server's front of one pipeline file: its core, and where it listens."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from textwrap import shorten
from typing import Any, Protocol

import msgspec

from edgert.device.gauges.gauges import Gauges
from edgert.device.opened import OpenDevice, open_device
from edgert.errors import ConfigError, DeviceLostError
from edgert.frames.request import InferRequest
from edgert.inference.core import Core
from edgert.inference.follower import Follower
from edgert.inference.open_version import Opener
from edgert.inference.override import Overrides
from edgert.inference.repository import Repository
from edgert.inference.response_cache import ResponseCache
from edgert.inference.served_version import ServedVersion
from edgert.inference.sites import FurtherGpus
from edgert.pipeline.assembly import Assembly
from edgert.pipeline.file import PipelineFile
from edgert.pipeline.options import HttpOptions
from edgert.pipeline.progress import Pulse
from edgert.publish.credentials import find_secret, read_secret
from edgert.schedule.rate_limiter import RateLimiter
from edgert.serve.bodies import Bodies
from edgert.serve.front import Front, NetworkFront
from edgert.serve.gate import Gate
from edgert.serve.options import GrpcOptions, ServeOptions, TlsOptions
from edgert.serve.shared_memory import SharedMemory

log = logging.getLogger(__name__)

MOST_REASON = 160  # characters of why a model is not loaded, where several are named

Pages = Mapping[str, Callable[[], tuple[bytes, str]]]


class Frames(Protocol):
    """The part of a line that runs cameras' frames through the same models."""

    def is_ready(self) -> bool:
        """Say whether its models are loaded and nothing stops."""

    def load(self, model: str) -> None:
        """Load a model for frames."""

    def unload(self, model: str) -> None:
        """Unload a model for frames."""


class LineCore(Core):
    """A Core beside the pipeline's own models: ready when they are, and control reaches both."""

    frames: Frames
    frame_models: tuple[str, ...] = ()

    def is_ready(self) -> bool:
        """Every model is there, of requests and of frames."""
        return super().is_ready() and self.frames.is_ready()

    def load(
        self, model: str, config_json: str | None = None, files: Mapping[str, bytes] | None = None
    ) -> None:
        """Load a model for requests, and again for frames if they use it. Raises as Core does.

        Models of frames can be loaded again, from the store, whatever `serve.mode` is.
        """
        is_of_frames = model in self.frame_models
        if is_of_frames and not self.is_explicit and config_json is None and not files:
            self.reload(model)
        else:
            super().load(model, config_json, files)
        if is_of_frames:
            self.frames.load(model)

    def unload(self, model: str, *, with_dependents: bool = False) -> None:
        """Unload a model for requests, and for frames if they use it. Raises as Core does."""
        super().unload(model, with_dependents=with_dependents)
        if model in self.frame_models:
            self.frames.unload(model)


class Serving:
    """Opened before models are loaded, so that clients hear that they are not ready yet."""

    def __init__(self, file: PipelineFile, options: ServeOptions, assembly: Assembly, frames: Frames) -> None:
        self._file = file
        self._options = _resolved(file, options)
        self._assembly = assembly
        scheduler = assembly.pipeline.scheduler
        self._cache = ResponseCache(options.cache_mb << 20) if options.cache_mb else None
        self._further = FurtherGpus(self._open_gpu)
        limiter = RateLimiter(scheduler.wake) if options.rate_limit else None
        opener = Opener(
            assembly.device,
            scheduler,
            assembly.engines.load,
            self._infer_step,
            self._cache,
            limiter,
            options.metrics,
            self._device_lost,
            self._further,
            find=self._find,
        )
        self._repository = Repository(opener.open)
        self.core = LineCore(file.store, options, self._repository, Overrides())
        self.core.frames, self.core.frame_models = frames, file.model_names
        self._gauges = Gauges()
        self._follower: Follower | None = None
        self._front: Front | None = None

    def open(self, undo: ExitStack, pages: Pages) -> None:
        """Listen. Raises ConfigError if an address cannot be had or a certificate not be read."""
        drain_s = self._file.options.service.drain_s
        undo.callback(self._further.close)
        undo.callback(self.core.close, drain_s)
        self._gauges.open()
        undo.callback(self._gauges.close)
        token = self._token()
        regions = SharedMemory(self._assembly.device.copies) if self._options.shared_memory else None
        if regions is not None:
            undo.callback(regions.close)
        self._front = front = Front(lambda: self._fronts(pages, token, regions))
        for address in front.open():
            log.info("serve: %s", address)
        undo.callback(front.close, drain_s)

    def begin(self) -> None:
        """Load the models that are to be served. Raises EdgertError where `exit_on_error` says so."""
        if self._options.mode != "poll":
            self._name_absent(self.core.begin(self.core.named_at_start()))
            return
        follower = Follower(self._file.store, self.core, self._options.poll_s)
        failed = self.core.begin(follower.begin())
        for model in failed:
            follower.failed(model)
        self._name_absent(failed)
        self._follower = follower
        follower.start()

    def stop(self) -> None:
        """Be no longer ready, and take no more requests."""
        self.core.stop()
        if self._follower is not None:
            self._follower.stop(self._file.options.service.drain_s)

    def metrics(self, report: dict[str, Any]) -> bytes:
        """Return the page for Prometheus: the line's counts, those of requests, and the machine's gauges."""
        from edgert.serve.inference_metrics import look  # with Prometheus's client, which costs 3 MB
        from edgert.serve.metrics import render

        cache = self._cache.statistics() if self._cache is not None else None
        refused = self._front.refused() if self._front is not None else {}
        return render(report, look(self.core, cache, refused), self._gauges.read())

    @property
    def loading(self) -> str:
        """What is being opened just now; empty if nothing is."""
        return self._repository.loading

    @property
    def loads(self) -> int:
        """How many openings began or ended."""
        return self._repository.loads

    def pulses(self, hang_s: float) -> Iterator[Pulse]:
        """Yield how far the lanes of served models have come, and the schedulers of further GPUs."""
        yield from self._further.pulses(hang_s)
        for served in self._repository.versions():
            yield from served.pulses(hang_s)

    def _name_absent(self, models: Sequence[str]) -> None:
        """Log which models keep the front from being ready. Each has been logged alone, perhaps long ago."""
        if not models:
            return
        reasons = {entry.name: entry.reason for entry in self.core.index()}
        named = [f"{model} ({shorten(reasons.get(model, ''), MOST_REASON)})" for model in models]
        log.warning("serve: /v2/health/ready says no, as not all models are loaded: %s", "; ".join(named))

    def _find(self, model: str, version: int) -> ServedVersion:
        return self._repository.get(model, version)

    def _infer_step(self, request: InferRequest) -> None:
        self.core.infer_step(request)  # the core is made after who asks it

    def _open_gpu(self, gpu: int) -> OpenDevice:
        """Take one more GPU; its memory and copies are counted with those of the first."""
        first = self._assembly.device
        forced = self._file.options.service.memory
        return open_device("cuda", first.driver.budget, forced, gpu=gpu, copies=first.copies)

    def _device_lost(self, error: DeviceLostError) -> None:
        self._further.leave()
        pipeline = self._assembly.pipeline
        if pipeline.failure is None:
            pipeline.failure = error
            pipeline.on_lost(error)

    def _fronts(self, pages: Pages, token: str, regions: SharedMemory | None) -> list[NetworkFront]:
        options, http = self._options, self._file.options.http
        gate = Gate(options.limits.requests, Bodies(options.limits))
        fronts: list[NetworkFront] = []
        try:
            if http is not None:
                fronts.append(self._http_front(http, pages, token, regions, gate))
            if options.grpc is not None:
                fronts.append(self._grpc_front(options.grpc, token, regions, gate))
        except ImportError as error:
            raise ConfigError(f"serve: needs {error.name}. Run: pip install 'edgert[serve]'") from error
        return fronts

    def _http_front(
        self, http: HttpOptions, pages: Pages, token: str, regions: SharedMemory | None, gate: Gate
    ) -> NetworkFront:
        from edgert.serve.http.server import HttpFront  # with httptools, which only a server needs

        return HttpFront(
            http.host,
            http.port,
            self.core,
            self._options,
            http.control,
            pages,
            regions=regions,
            gate=gate,
            token=token,
        )

    def _grpc_front(
        self, grpc: GrpcOptions, token: str, regions: SharedMemory | None, gate: Gate
    ) -> NetworkFront:
        from edgert.serve.grpc.front import GrpcFront  # with protobuf's messages

        http = self._file.options.http
        is_allowed = grpc.control or (http is not None and http.control)
        return GrpcFront(
            self.core, self._options, control_allowed=is_allowed, regions=regions, gate=gate, token=token
        )

    def _token(self) -> str:
        if not self._options.token:
            return ""
        return read_secret(self._options.token, self._file.document.resolve, key="serve.token").reveal()


def _resolved(file: PipelineFile, options: ServeOptions) -> ServeOptions:
    """Return the options with the places of their files as paths. Raises ConfigError."""
    tls = options.tls
    if tls is None:
        return options

    def path(place: str) -> str:
        return str(find_secret(place, file.document.resolve, os.environ)) if place else ""

    made = TlsOptions(certificate=path(tls.certificate), key=path(tls.key), client_ca=path(tls.client_ca))
    return msgspec.structs.replace(options, tls=made)

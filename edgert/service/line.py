"""One pipeline file at work: opened from the sinks backwards, announced, drained, closed."""

from __future__ import annotations

import gc
import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from edgert.capture.options import STOP_TIMEOUT_S
from edgert.capture.state import SourceState
from edgert.device.heap import return_free_memory
from edgert.device.opened import DeviceName
from edgert.errors import DeviceLostError
from edgert.pipeline.assembly import CLOSE_SINKS_S, Assembly
from edgert.pipeline.changes import Changes
from edgert.pipeline.file import PipelineFile
from edgert.pipeline.model_set import ModelState
from edgert.pipeline.overview import Overview
from edgert.pipeline.progress import Pulse
from edgert.service.announcements import Announcements

if TYPE_CHECKING:
    from edgert.service.serving import Serving

log = logging.getLogger(__name__)

CLOSE_REST_S = 5.0  # commands, HTTP, the device

Event = Literal["stop", "reload", "ended", "lost", "done", "tick", "replace"]


class Line:
    """The Observer of its Assembly, and what its HTTP front asks.

    `put` takes events for the main thread, which makes all calls but those of parts and front.
    """

    def __init__(self, file: PipelineFile, put: Callable[[Event], None], changed: Callable[[], None]) -> None:
        """`changed` hears that a source or model has another state."""
        self.file = file
        self.is_device_lost = False
        self.has_lost_work = False  # after `close`: a request was not answered in time
        self._put = put
        self._changed = changed
        self._is_stopping = False
        self._drain_began_mono_s = 0.0
        self._is_open = False
        self._is_born = False
        self._gone: tuple[Iterable[str], Iterable[str]] = ((), ())
        self._undo = ExitStack()
        self._serving: Serving | None = None
        self.device_name: DeviceName = "host"
        self.assembly = Assembly(file, boot=os.urandom(8).hex(), observer=self)
        self.changes = Changes(file, self.assembly, lambda: put("stop"))
        self.announcements = Announcements(self.assembly, file.options)

    @property
    def close_s(self) -> float:
        """How long `drain` and `close` take at most, if all of it hangs that may."""
        options = self.file.options
        hung_s = STOP_TIMEOUT_S * len(options.sources) + (CLOSE_SINKS_S + 1.0) * len(options.sinks)
        drains = 5 if options.serve is not None else 2  # also of a load, of requests, of their models
        return drains * options.service.drain_s + hung_s + CLOSE_REST_S

    # What the main thread calls, in this order.

    def open(self) -> None:
        """Open everything but the models. Raises ConfigError, DeviceError; `close` then is still due."""
        undo = self._undo
        self.device_name = self.file.device_name
        self.assembly.open_device(undo)
        self.assembly.open_sinks(undo)
        undo.callback(self._forget)
        self.announcements.state("init")
        self.assembly.open_line(undo)
        self._open_front(undo)
        self.assembly.open_sources(undo)
        undo.callback(lambda: self.assembly.models.close(self._left_s()))
        self._is_open = True

    def load_models(self) -> None:
        """Load what frames and requests need. Raises EdgertError."""
        self.assembly.load_models()
        if self._serving is not None:
            self._serving.begin()

    def begin(self) -> None:
        """Let frames in, and say so. The models are loaded."""
        self.announcements.birth()
        self.assembly.describe()
        self._is_born = True
        self.assembly.let_frames_in()
        self.assembly.open_commands(self._undo, self.changes)
        self.announcements.state("ready")
        gc.collect()
        gc.freeze()  # what is loaded now stays; later collections need not look at it
        return_free_memory()

    def drain(self) -> bool:
        """Take no more frames and let those admitted finish; False if some were dropped."""
        self._is_stopping = True
        self._drain_began_mono_s = time.monotonic()
        self.announcements.state("draining")
        if self._serving is not None:
            self._serving.stop()
        drain_s = self.file.options.service.drain_s
        is_drained = self.assembly.drain(drain_s)
        if not is_drained:
            log.warning("not all frames were answered within drain_s = %s", drain_s)
        self.announcements.stats()
        self.announcements.stopped_sources()
        return is_drained

    def give_way(self, file: PipelineFile) -> None:
        """Let `close` remove what brokers retain of sources and models that `file` does not have."""
        if file.options.node == self.file.options.node:
            sources = self.file.options.sources.keys() - file.options.sources.keys()
            self._gone = (sorted(sources), sorted({*self.file.model_names} - {*file.model_names}))

    def close(self) -> None:
        """Close what is open, the sinks last."""
        self._is_stopping = True
        self._undo.close()
        if self._serving is not None and self._serving.core.has_lost_work:
            self.has_lost_work = True
            log.warning(
                "not all requests were answered within drain_s = %s", self.file.options.service.drain_s
            )
        gc.unfreeze()

    # What the parts report; called on their threads.

    def source_changed(self, source: str, state: SourceState, reason: str) -> None:
        """Announce a source's new state; its capture has logged it. What serves requests outlives sources."""
        self.announcements.source(source)
        self._changed()
        if state == "ended" and self._serving is None and self.assembly.have_all_ended():
            self._put("ended")

    def device_lost(self, error: DeviceLostError) -> None:
        """Stop: systemd starts a new process."""
        log.error("%s", error)
        self.is_device_lost = True
        self._put("lost")

    def model_changed(self, model: str, state: ModelState) -> None:
        """Log and announce a model's new state."""
        log.info("model %s is %s%s", model, state.state, f": {state.reason}" if state.reason else "")
        self.announcements.model(model, state)
        self._changed()
        if self._is_born:
            self.assembly.describe()  # its labels may be others

    # What the supervisor asks, on its thread.

    @property
    def hang_s(self) -> float:
        """How long a part may be without progress."""
        return self.file.options.service.hang_s

    def pulses(self) -> Iterable[Pulse]:
        """Return how far its parts have come. After `begin`."""
        served = self._serving.pulses(self.hang_s) if self._serving else ()
        return chain(self.assembly.pulses(), served)

    def loading(self) -> Pulse:
        """Return how far loading has come."""
        loaders = (
            [loader for loader in (self.assembly.models, self._serving) if loader] if self._is_open else []
        )
        what = next((loader.loading for loader in loaders if loader.loading), "")
        loads = sum(loader.loads for loader in loaders)
        limit_s = self.file.options.service.load_s
        return Pulse(f"loading {what}", loads, is_idle=not what, limit_s=limit_s)

    def overview(self) -> Overview:
        """Return how it is, in short. After `begin`."""
        return self.assembly.overview()

    def are_sources_tried(self) -> bool:
        """The first attempt to open each source has had an outcome. After `begin`."""
        return self.assembly.are_sources_tried()

    # What the HTTP front asks.

    def is_ready(self) -> bool:
        """Every model is loaded and nothing stops."""
        return not self._is_stopping and self.assembly.is_ready()

    def report(self) -> dict[str, Any]:
        """Return all counts."""
        tree: dict[str, Any] = msgspec.to_builtins(self.assembly.report())
        return tree

    def index(self) -> list[dict[str, str]]:
        """Return models in the form of the Inference Server's repository index."""
        return [
            {"name": name, "version": str(version), "state": state.state, "reason": state.reason}
            for name, state in dict(self.assembly.models.states).items()
            for version in state.versions or ("",)
        ]

    def load(self, model: str) -> None:
        """Load or reload one of the models of frames; see `Changes`."""
        self.changes.load_for_frames(model)

    def unload(self, model: str) -> None:
        """Unload a model for frames; see `Changes`."""
        self.changes.unload_for_frames(model)

    def allocations(self) -> dict[str, Any]:
        """Return who holds how much memory, and the newest allocations and releases."""
        tree: dict[str, Any] = msgspec.to_builtins(self.assembly.allocations())
        return tree

    def _open_front(self, undo: ExitStack) -> None:
        http, serve = self.file.options.http, self.file.options.serve
        if serve is not None:
            from edgert.service.serving import Serving  # with asyncio, for those that want it

            self._serving = Serving(self.file, serve, self.assembly, self)
            self.changes.served = self._serving.core
            self._serving.open(undo, self._pages())
        elif http is not None:
            from edgert.serve.health import HttpServer  # 15 ms and 2 MB that most boards need not pay

            server = HttpServer(http.host, http.port, self, control=http.control)
            log.info("http: health and metrics at %s", server.open())
            undo.callback(server.close)

    def _pages(self) -> Mapping[str, Callable[[], tuple[bytes, str]]]:
        """Return what is shown beside what the Inference Server has."""

        def metrics() -> tuple[bytes, str]:
            from edgert.serve.metrics import (  # its client costs 3 MB until it is asked for
                CONTENT_TYPE,
                render,
            )

            report = self.report()
            return self._serving.metrics(report) if self._serving else render(report), CONTENT_TYPE

        def allocations() -> tuple[bytes, str]:
            return msgspec.json.encode(self.allocations()), "application/json"

        return {"/metrics": metrics, "/v1/allocations": allocations}

    def _left_s(self) -> float:
        """Return how much of drain_s is left; all of it where nothing was drained."""
        drain_s = self.file.options.service.drain_s
        if not self._drain_began_mono_s:
            return drain_s
        return max(0.0, self._drain_began_mono_s + drain_s - time.monotonic())

    def _forget(self) -> None:
        self.announcements.forget(*self._gone)

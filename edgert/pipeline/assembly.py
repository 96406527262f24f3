"""Opens and joins the parts that a pipeline file names, and counts them together."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

from edgert.control.commands import Commands
from edgert.control.request import answer_topic
from edgert.control.verbs import Target
from edgert.device.allocations import AllocationReport, report_allocations
from edgert.device.memory import Budget
from edgert.device.opened import OpenDevice, open_device
from edgert.errors import ConfigError, DeviceLostError, EndOfSourceError
from edgert.models.store import ModelVersion
from edgert.pipeline.file import PipelineFile
from edgert.pipeline.link import make_links
from edgert.pipeline.loaded_model import LoadedModel
from edgert.pipeline.model_plan import ModelPlan
from edgert.pipeline.model_set import ModelSet, ModelState
from edgert.pipeline.observer import Observer
from edgert.pipeline.open_model import load_engine, open_model
from edgert.pipeline.overview import Overview, overview_of
from edgert.pipeline.pipeline import Pipeline
from edgert.pipeline.progress import Pulse, pulses_of
from edgert.pipeline.report import ModelReport, Report, SourceReport, copy_reports, memory_report
from edgert.pipeline.shared_engines import SharedEngines
from edgert.publish import topics
from edgert.publish.factory import open_pictures, open_sink, open_tap
from edgert.publish.options import TapOptions
from edgert.publish.payload import ResultEncoder
from edgert.publish.picture_tap import PictureTap
from edgert.publish.session import Received
from edgert.publish.sink import Announcer, Sink, SinkStats, Tap
from edgert.stats import CopyCounts, proportional_set_bytes, stage_cpu_s

if TYPE_CHECKING:
    from edgert.pipeline.running_source import RunningSource

CLOSE_SINKS_S = 5.0
CLOSE_COMMANDS_S = 1.0


class Assembly:
    """All parts of one running pipeline file. Each `open_*` leaves on the stack what undoes it."""

    def __init__(self, file: PipelineFile, boot: str, observer: Observer) -> None:
        self.boot = boot
        self.announcers: list[Announcer] = []
        self._file = file
        self._observer = observer
        self._started = time.monotonic()
        self._budget = Budget(file.options.service.memory_mb << 20)
        self._sinks: dict[str, Sink] = {}
        self._taps: dict[str, Tap] = {}
        self._pictures: PictureTap | None = None  # where they may be asked for, else the first there is
        self._tap_copies = CopyCounts()
        self._sources: dict[str, RunningSource] = {}
        self._links = {name: make_links(name, source) for name, source in file.options.sources.items()}
        self._commands: Commands | None = None
        self._threads = 1
        self._is_device_lost = False
        self.engines = SharedEngines(load_engine)
        self.device: OpenDevice
        self.pipeline: Pipeline
        self.models: ModelSet

    def open_device(self, undo: ExitStack) -> None:
        """Take the device that the models need. Raises DeviceError, ConfigError."""
        forced = self._file.options.service.memory
        sources = self._file.options.sources.values()
        shared = sum(len(source.models) > 1 for source in sources)
        self.device = open_device(
            self._file.device_name, self._budget, forced, is_read_often=2 * shared > len(sources)
        )
        undo.callback(self._close_device)

    def open_sinks(self, undo: ExitStack) -> None:
        """Open every sink. Raises ConfigError."""
        node, resolve = self._file.options.node, self._file.document.resolve
        orders = self._file.snapshot_sink()
        for name, options in self._file.options.sinks.items():
            if isinstance(options, TapOptions):
                self._taps[name] = open_tap(name, options, node, self.boot, self._tap_copies)
                undo.callback(self._taps[name].close, CLOSE_SINKS_S)
            else:
                self._sinks[name] = sink = open_sink(name, options, node, self.boot, resolve)
                undo.callback(sink.close, CLOSE_SINKS_S)
                if pictures := open_pictures(name, options, node, sink, takes_orders=name == orders):
                    self._taps[pictures.name] = pictures
                    self._pictures = pictures if name == orders else self._pictures or pictures
        self.announcers = [sink.announcer for sink in self._sinks.values() if sink.announcer]

    def open_line(self, undo: ExitStack) -> None:
        """Start scheduling and decoding. Raises ConfigError."""
        self.pipeline = pipeline = Pipeline(
            self._links, list(self._sinks.values()), list(self._taps.values()), self.device.driver.current
        )
        self.models = pipeline.models = ModelSet(
            pipeline.scheduler, self._open_model, pipeline.attach, pipeline.drop, self._observer.model_changed
        )
        pipeline.on_lost = self._device_lost
        pipeline.start()
        undo.callback(pipeline.stop)

    def load_models(self) -> None:
        """Load every model. Raises what `open_model` does, or ClosedError once a stop closed the models."""
        plans = [self._file.plan(name) for name in self._file.model_names]
        lanes = sum(plan.lanes * len(plan.entry.chosen_versions()) for plan in plans)
        self._threads = max(1, len(os.sched_getaffinity(0)) // max(lanes, 1))
        for plan in plans:
            self.models.load(plan)

    def open_sources(self, undo: ExitStack) -> None:
        """Open what can be opened before frames are wanted: a clip is read while models load."""
        if self._file.options.sources:
            from edgert.pipeline.running_source import RunningSource  # with OpenCV: 20 MB
        for name, options in self._file.options.sources.items():
            source = RunningSource(
                name,
                options,
                self._links[name],
                self.pipeline,
                self.device.slots_of(f"source {name}"),
                ResultEncoder(self._file.options.node, self.boot),
                self._file.document.path.parent,
                partial(self._observer.source_changed, name),
            )
            self._sources[name] = source
            undo.callback(source.close)
        for source in self._sources.values():
            source.start()

    def let_frames_in(self) -> None:
        """Let sources deliver. A camera that is not there is no error: it is tried again."""
        for source in self._sources.values():
            source.resume()

    def open_commands(self, undo: ExitStack, target: Target) -> None:
        """Listen for commands, if the pipeline file has `[control]`. Raises ConfigError."""
        options = self._file.options.control
        if options is None:
            return
        announcer = self._sinks[self._file.control_sink(options)].announcer
        assert announcer is not None  # noqa: S101 - an MQTT sink has one

        def answer(received: Received, payload: bytes) -> None:
            announcer.answer(answer_topic(received), payload, received.correlation)

        self._commands = Commands(options, target, answer)
        self._commands.open()
        undo.callback(self._commands.close, CLOSE_COMMANDS_S)
        announcer.listen(topics.command("+"), self._commands.handle)

    def describe(self) -> None:
        """Say which models each source has, and which labels the detectors, to those that show it."""
        sources = {name: options.models for name, options in self._file.options.sources.items()}
        for announcer in self.announcers:
            announcer.describe(sources, self._file.detected_labels())

    def snapshot(self, source: str) -> str:
        """Let the next frame of a source be published as a picture; returns the topic. Raises ConfigError."""
        self._going_source(source)
        if self._pictures is None:
            raise ConfigError("No sink publishes pictures: one with sparkplug has no place for them.")
        return self._pictures.take_next(source)

    def pause(self, source: str) -> None:
        """Close a source until `resume`. Raises ConfigError, EndOfSourceError."""
        self._going_source(source).pause()

    def resume(self, source: str) -> None:
        """Open a source that was paused. Raises ConfigError, EndOfSourceError."""
        self._going_source(source).resume()

    def drain(self, timeout_s: float) -> bool:
        """Take no more frames and let those admitted finish; False if some were dropped when time was up.

        No command is done any more: it might let frames in again.
        """
        if self._commands is not None:
            self._commands.close(CLOSE_COMMANDS_S)
        for source in self._sources.values():
            source.hold()
        return self.pipeline.drain(timeout_s)

    def is_ready(self) -> bool:
        """Every model of the pipeline is loaded; one that is being replaced still serves."""
        return all(self.models.get(name) is not None for name in self._file.model_names)

    def are_sources_tried(self) -> bool:
        """The first attempt to open each source has had an outcome."""
        return all(source.is_tried for source in self._sources.values())

    def uptime_s(self) -> float:
        """Return the time since this was made."""
        return round(time.monotonic() - self._started, 3)

    def follow(self, file: PipelineFile) -> None:
        """Go on with a file in which only `store` and `models` differ."""
        self._file = file

    def pulses(self) -> Iterator[Pulse]:
        """Return how far every part has come, and let the scheduler look once. Takes no lock."""
        hang_s = self._file.options.service.hang_s
        return pulses_of(self.pipeline, self._sources, self._receivers().values(), hang_s)

    def overview(self) -> Overview:
        """Return how the line is, in short. Cheaper than `report`."""
        links = [link for links in self._links.values() for link in links]
        return overview_of(self._sources, links, self.models.states, self.sink_report().values())

    def have_all_ended(self) -> bool:
        """No source has frames any more."""
        return all(source.state == "ended" for source in self._sources.values())

    def failure(self) -> Exception | None:
        """Return what nothing goes on after: a lost device, or what ended a source before its last frame."""
        return self.pipeline.failure or next(
            (source.failure for source in self._sources.values() if source.failure), None
        )

    def device_attributes(self) -> Mapping[str, Any]:
        """Return what the device says of itself."""
        return self.device.driver.attributes()

    def allocations(self) -> AllocationReport:
        """Return who holds how much memory, and the newest allocations."""
        return report_allocations(self._budget)

    def runtimes(self) -> dict[str, str]:
        """Return which runtime runs each model that is loaded."""
        return {model.name: model.runtime for model in self.models.loaded()}

    def source_report(self, name: str) -> SourceReport:
        """Return one source's counts."""
        return self._sources[name].report()

    def report(self) -> Report:
        """Return all counts."""
        return Report(
            self._file.options.node,
            self.boot,
            self.uptime_s(),
            proportional_set_bytes(),
            memory_report(self._budget),
            self._stage_cpu_s(),
            {name: source.report() for name, source in dict(self._sources).items()},
            {name: self._model_report(name, state) for name, state in dict(self.models.states).items()},
            self.sink_report(),
            copy_reports(self._tap_copies),
            copy_reports(self.device.copies),
            self._commands.counts.snapshot() if self._commands else {},
        )

    def sink_report(self) -> dict[str, SinkStats]:
        """Return what the sinks did; also of those that are closed."""
        return {name: sink.statistics() for name, sink in self._receivers().items()}

    def _going_source(self, name: str) -> RunningSource:
        source = self._sources.get(name)
        if source is None:
            raise ConfigError(f"There is no source {name!r}; there are {', '.join(self._sources)}.")
        if source.state == "ended":
            raise EndOfSourceError(f"Source {name!r} has ended.")
        return source

    def _close_device(self) -> None:
        """Give the device back; one that is lost goes with the process, as to ask it could take for ever."""
        if not self._is_device_lost:
            self.device.close()

    def _device_lost(self, error: DeviceLostError) -> None:
        self._is_device_lost = True
        self._observer.device_lost(error)

    def _stage_cpu_s(self) -> dict[str, float]:
        captured_ns = sum(source.cpu_ns for source in self._sources.values())  # also of threads that ended
        return stage_cpu_s() | {"capture": round(captured_ns / 1e9, 6)}

    def _receivers(self) -> dict[str, Sink | Tap]:
        return {**self._sinks, **self._taps}

    def _model_report(self, name: str, state: ModelState) -> ModelReport:
        versions = [model.statistics() for model in self.models.loaded() if model.name == name]
        return ModelReport(state.state, state.reason, versions)

    def _open_model(self, plan: ModelPlan, version: ModelVersion) -> LoadedModel:
        return open_model(plan, version, self.device, self._threads, self.engines.load)

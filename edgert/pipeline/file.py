"""The pipeline file: what a person writes to connect sources, models and sinks."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

from edgert.capture.options import SourceOptions
from edgert.config import Document
from edgert.control.options import ControlOptions
from edgert.device.board import probe_cuda_driver
from edgert.device.opened import DeviceName
from edgert.errors import ConfigError, EdgertError
from edgert.models.runtime import FAMILY_OF_RUNTIME, TENSORRT
from edgert.models.store import ModelStore
from edgert.pipeline.listeners import listener_problems
from edgert.pipeline.model_plan import ModelPlan, plan_model
from edgert.pipeline.open_model import check_model
from edgert.pipeline.options import PipelineOptions
from edgert.pipeline.served_part import ServedPart
from edgert.publish.factory import check_sink
from edgert.publish.filters import FilterOptions
from edgert.publish.options import MqttOptions, SinkOptions, TapOptions
from edgert.publish.topics import check_name


class PipelineFile:
    """A parsed pipeline file. `problems` says what is wrong with it beyond the types of its values."""

    def __init__(self, document: Document, overrides: Iterable[str] = ()) -> None:
        self._overrides = tuple(overrides)
        self.document = document.override(self._overrides)
        self.options = self.document.as_type(PipelineOptions)
        self.store = ModelStore(self.document.resolve(self.options.store))
        self.served = ServedPart(self.document, self.options, self.store)

    @classmethod
    def load(cls, path: Path, overrides: Iterable[str] = ()) -> PipelineFile:
        """Parse the file with `a.b=value` overrides applied. Raises ConfigError."""
        return cls(Document.load(path), overrides)

    def read_again(self) -> PipelineFile:
        """Return what the file says now, with the same overrides. Raises ConfigError."""
        return self.load(self.document.path, self._overrides)

    @property
    def model_names(self) -> tuple[str, ...]:
        """Models that a source feeds, without versions, each once."""
        wanted = (
            name.partition("/")[0] for source in self.options.sources.values() for name in source.models
        )
        return tuple(dict.fromkeys(wanted))

    def plan(self, model: str) -> ModelPlan:
        """Return what is to be loaded for a model. Raises ModelError or ConfigError."""
        return plan_model(self.store.entry(model), self.options.models.get(model, {}), self.document.path)

    def detected_labels(self) -> dict[str, Sequence[str]]:
        """Return the labels of each detector; models whose files are wrong just now are left out."""
        found: dict[str, Sequence[str]] = {}
        for model in self.model_names:
            with suppress(EdgertError):
                found[model] = self.plan(model).detected_labels()
        return {model: labels for model, labels in found.items() if labels}

    def warnings(self, *, with_served: bool = False) -> list[str]:
        """Return what edgert ignores in files and store, and what is a risk.

        Models that are wrong are left to `problems`. Of those that only requests use nothing is said
        without `with_served`: their loading does.
        """
        found = [*self.served.warnings(), *self.store.warnings()]
        for model in self.model_names:
            with suppress(EdgertError):
                found += self.plan(model).warnings()
        if with_served:
            found += self.served.model_warnings(self._served_alone())
        with suppress(EdgertError):
            if self.device_name == "cuda" and (driver := probe_cuda_driver()).version is None:
                found.append(f"there are engines for an NVIDIA GPU; the driver here is {driver.problem}")
        return found

    def check(self) -> None:
        """Raise the first problem. Models that only requests use are told of when they are loaded."""
        for problem in self.problems(with_served=False):
            raise problem

    def problems(self, *, opens_engines: bool = False, with_served: bool = True) -> Iterator[EdgertError]:
        """Yield everything that is wrong, without opening a device, a camera or a connection.

        With `opens_engines`, engine files that run on the host are loaded too, and held against
        config.pbtxt, preparation, decoding and labels; that takes as long as a start does. `with_served`
        takes in the models of the store that only requests use.
        """
        yield from self.own_problems()
        for model in self.model_names:
            yield from _raised(lambda m=model: self._check_model(m, opens_engines))
        if with_served:
            yield from self.served.model_problems(self._served_alone(), opens_engines=opens_engines)

    def own_problems(self) -> Iterator[EdgertError]:
        """Yield what is wrong with the file itself; the models' own files are left out."""
        yield from self._name_problems()
        for name, source in self.options.sources.items():
            yield from _raised(lambda n=name, s=source: self._check_source(n, s))
        for name, sink in self.options.sinks.items():
            yield from _raised(lambda n=name, s=sink: self._check_sink(n, s))
        yield from self._shared_topics()
        for model in self.options.models:
            if model not in self.model_names:
                yield self._error(f"models.{model}: no source feeds a model of this name")
        if self.options.control is not None:
            yield from self._control_problems(self.options.control)
        for problem in chain(self.served.problems(), listener_problems(self.options)):
            yield self._error(str(problem))

    def control_sink(self, control: ControlOptions) -> str:
        """Return the MQTT sink that listens for commands. Raises ConfigError."""
        brokers = [name for name, sink in self.options.sinks.items() if isinstance(sink, MqttOptions)]
        known = ", ".join(brokers) or "none"
        if control.sink in brokers:
            return control.sink
        if control.sink:
            raise self._error(
                f"control.sink = {control.sink!r}: no MQTT sink has this name; there is {known}"
            )
        if len(brokers) != 1:
            raise self._error(f"control.sink: must name the MQTT sink that listens; there is {known}")
        return brokers[0]

    def snapshot_sink(self) -> str:
        """Return the MQTT sink that hears of wanted pictures; empty if nobody may ask. Raises ConfigError."""
        control = self.options.control
        return self.control_sink(control) if control and control.allows_some("snapshot") else ""

    def _name_problems(self) -> Iterator[EdgertError]:
        keys = {"node": self.options.node}
        keys |= {f"sources.{name}": name for name in self.options.sources}
        keys |= {f"sinks.{name}": name for name in self.options.sinks}
        for key, name in keys.items():
            for problem in _raised(lambda n=name: check_name(n)):
                yield self._error(f"{key}: {problem}")
        taps = [name for name, sink in self.options.sinks.items() if isinstance(sink, TapOptions)]
        if len(taps) > 1:
            yield self._error(f"sinks: {' and '.join(taps)} are taps; one is enough")
        if not self.options.sources and self.options.serve is None:
            yield self._error('sources: none is given; add one, e.g. [sources.door] uri = "v4l2:/dev/video0"')

    def _control_problems(self, control: ControlOptions) -> Iterator[EdgertError]:
        yield from _raised(lambda: self.control_sink(control))
        models = dict.fromkeys([*self.model_names, *self.served.models()])
        known = {"model": tuple(models), "source": tuple(self.options.sources)}
        for entry, subject, name in control.subjects():
            if name not in known[subject]:
                there = ", ".join(known[subject])
                yield self._error(
                    f"control.allow: {entry!r} names no {subject} of this file; there is {there}"
                )

    def _check_source(self, name: str, source: SourceOptions) -> None:
        key = f"sources.{name}"
        if not source.models:
            raise self._error(f"{key}.models: names no model, so its frames would go nowhere")
        for model in source.models:
            self._check_reference(f"{key}.models", model)
        try:
            source.check()
            self._check_clip(source)
        except ConfigError as error:
            raise self._error(f"{key}: {error}") from error

    def _check_sink(self, name: str, sink: SinkOptions) -> None:
        try:
            check_sink(name, sink, self.document.resolve, self.options.node)
        except ConfigError as error:
            raise self._error(f"sinks.{name}: {error}") from error
        if not isinstance(sink, TapOptions) and sink.filter is not None:
            self._check_filter(f"sinks.{name}.filter", sink.filter)

    def _check_filter(self, key: str, chosen: FilterOptions) -> None:
        for what, wanted, known in (
            ("sources", chosen.sources, self.options.sources),
            ("models", chosen.models, self.model_names),
        ):
            unknown = [name for name in wanted or () if name not in known]
            if unknown:
                said = f"{', '.join(map(repr, unknown))} is none; there are {', '.join(known)}"
                raise self._error(f"{key}.{what}: {said}")
        self._check_labels(key, chosen)

    def _check_labels(self, key: str, chosen: FilterOptions) -> None:
        """See that some model that the filter lets through can find each label."""
        models = [name for name in self.model_names if chosen.models is None or name in chosen.models]
        try:
            tables = [self.plan(model).found_labels() for model in models]
        except EdgertError:  # told with the model
            return
        known = {label for table in tables if table is not None for label in table}
        for wanted in chosen.labels or ():
            if not any(table is not None and _has_label(table, wanted) for table in tables):
                near = difflib.get_close_matches(wanted, known, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"there are {len(known)} labels"
                raise self._error(f"{key}.labels: {wanted!r} is none of {', '.join(models)}; {hint}")

    def _shared_topics(self) -> Iterator[EdgertError]:
        """Yield where two sinks would publish to the same topics of one broker."""
        seen: dict[tuple[str, int, str], str] = {}
        for name, sink in self.options.sinks.items():
            if not isinstance(sink, MqttOptions) or sink.sparkplug is not None:
                continue
            other = seen.setdefault((*sink.address, sink.topic_root), name)
            if other != name:
                yield self._error(
                    f"sinks.{name}: publishes to the same topics as sinks.{other}; give it another topic_root"
                )

    @property
    def device_name(self) -> DeviceName:
        """The device that the models' engines need."""
        runtimes = {self.plan(name).runtime for name in self.model_names}
        is_needed = any(FAMILY_OF_RUNTIME[runtime] is TENSORRT for runtime in runtimes)
        return "cuda" if is_needed or self.served.needs_gpu() else "host"

    def counted(self) -> str:
        """Return how many sources and models there are, in words."""
        counts = {"sources": len(self.options.sources), "models": len(self.model_names)}
        if self.options.serve is not None:
            counts["served models"] = len(self._served_alone())
        return ", ".join(f"{count} {what}" for what, count in counts.items())

    def _served_alone(self) -> Sequence[str]:
        """Return the models that requests use from the start, and frames do not."""
        return [name for name in self.served.at_start() if name not in self.model_names]

    def _check_model(self, model: str, opens_engine: bool) -> None:
        plan = self.plan(model)
        plan.check()
        for version in plan.entry.chosen_versions() if opens_engine else ():
            check_model(plan, version)

    def _check_clip(self, source: SourceOptions) -> None:
        spec = source.spec()
        if spec.kind not in ("file", "replay") or spec.target == "noise":
            return
        path = self.document.resolve(spec.target)
        if not path.is_file():
            raise ConfigError(f"uri = {source.uri!r}: there is no file {path}")

    def _check_reference(self, key: str, model: str) -> None:
        name, slash, version = model.partition("/")
        for problem in _raised(lambda: check_name(name)):
            raise self._error(f"{key} = {model!r}: {problem}")
        if not slash:
            return
        chosen = [number.number for number in self.store.entry(name).chosen_versions()]
        if version not in map(str, chosen):
            raise self._error(f"{key} = {model!r}: version {version} is not served; served: {chosen}")

    def _error(self, text: str) -> ConfigError:
        return ConfigError(f"{self.document.path}: {text}")


def _has_label(table: Sequence[str], wanted: str) -> bool:
    """Say whether a result may have the label; a class beyond the table is called by its index."""
    return wanted in table or (wanted.isdecimal() and int(wanted) >= len(table))


def _raised(check: Any) -> Iterator[EdgertError]:
    try:
        check()
    except EdgertError as error:
        yield error

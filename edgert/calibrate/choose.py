"""Chooses how thresholds are set and which layers stay in float, by the selection frames."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from edgert.calibrate.asked import cached_thresholds, placement_asked_for
from edgert.calibrate.compare.comparison import ComparisonFigures
from edgert.calibrate.compare.ranking import distance, nearest
from edgert.calibrate.compare.trial import Trial
from edgert.calibrate.fewest import counts_tried, fewest_layers, surely_nearest, worst_layers
from edgert.calibrate.held_frames import HeldFrames
from edgert.calibrate.observe.observation import Observation
from edgert.calibrate.observe.thresholds import METHODS, Method, threshold
from edgert.calibrate.progress import StageProgress
from edgert.calibrate.quantize.layers import weighted_layers
from edgert.calibrate.quantize.placement import Placement, place
from edgert.calibrate.quantize.quantizer import Quantizer
from edgert.calibrate.report.report import MethodReport
from edgert.calibrate.sample.sample_set import SampleFrame
from edgert.calibrate.sensitivity import AT_ONCE, Sensitivity, measure_layers
from edgert.calibrate.setting import Setting
from edgert.calibrate.work import WorkFolder, key_of
from edgert.models.manifest import sha256_of

FALLBACK: Method = "mse"  # where there is no frame to choose by
FROM_CACHE = "cache"
SENSITIVE = "sensitive"
METHOD_FILE, LAYERS_FILE, CHOICE_FILE = "method.state", "layers.state", "choice.state"
_SAVE_LAYERS = 8  # measured between two writes
_CANDIDATES_AT_ONCE = 5  # in memory, beside the reference
_SHOWN = 5
_NEAR_RATIO = 1.25  # of 1 - cosine: a method that falls short by more is not tried a second time
_RUNNERS_UP_MAX = 2

Thresholds = Mapping[str, float]
Name = TypeVar("Name", bound=Hashable)


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the choice. `errors` are of layers that were measured, alone in INT8."""

    method: str
    amax: dict[str, float]
    kept: dict[str, str]  # layers in float, and why
    tried: tuple[MethodReport, ...] = ()
    errors: dict[str, float] = {}
    notes: tuple[str, ...] = ()


class Chooser:
    """Makes the choice for one model. What an earlier run has found of it is not looked for again."""

    def __init__(
        self,
        setting: Setting,
        observation: Observation,
        selection: Sequence[SampleFrame],
        work: WorkFolder,
        progress: StageProgress,
    ) -> None:
        self._setting = setting
        self._observation = observation
        self._selection = selection
        self._frames = HeldFrames(setting.frames, selection)
        self._work = work
        self._progress = progress
        self._options = setting.recipe.options.quantize
        placement, self._kept = placement_asked_for(setting)
        self._placement = placement.within(observation.histograms)
        self._quantizer = Quantizer(setting.model, observation.channel_means())
        path, score_min = setting.model.file.path, setting.recipe.options.score_min
        self._trial = Trial(path, setting.model.proto, setting.decoder, score_min, AT_ONCE)

    @property
    def quantizer(self) -> Quantizer:
        """What makes the models that are compared."""
        return self._quantizer

    def placement(self, choice: Choice) -> Placement:
        """Return what a choice quantizes."""
        return place(self._setting.model.graph(), choice.kept).within(choice.amax)

    def choose(self, observed: bytes) -> Choice:
        """Return thresholds, and the layers that stay in float; `observed` is the observation's key.

        Raises:
            ConfigError: TensorRT's cache, or the disk.
            ModelError: a model that was made cannot be run.
        """
        options, decode = self._options, self._setting.plan.settings.decode
        frames = [sample.sha256 for sample in self._selection]
        score_min = self._setting.recipe.options.score_min
        cache = sha256_of(self._setting.recipe.file(options.cache)) if options.cache else ""
        key = key_of(observed, self._kept, options.method, cache, frames, decode, score_min)
        choice = self._known(METHOD_FILE, key) or self._with_method(key)
        return self._known(CHOICE_FILE, key_of(key, options)) or self._with_sensitive(choice, key)

    def _known(self, name: str, key: bytes) -> Choice | None:
        return self._work.load(name, key, Choice)

    def _with_method(self, key: bytes) -> Choice:
        method, cache = self._options.method, self._options.cache
        if cache is not None:
            choice = self._from_cache(cache)
        elif method != "auto":
            choice = self._by(method)
        elif self._selection:
            choice = self._by_best_method()
        else:
            note = f"There were no frames to choose a method by, so it is {FALLBACK}"
            choice = msgspec.structs.replace(self._by(FALLBACK), notes=(note,))
        self._work.save(METHOD_FILE, key, choice)
        return choice

    def _by(self, method: Method) -> Choice:
        return Choice(method=method, amax=self._thresholds(method), kept=dict(self._kept))

    def _by_best_method(self) -> Choice:
        choices = {method: self._by(method) for method in METHODS}
        figures = self._tried({m: (self._placement, c.amax) for m, c in choices.items()}, "choose thresholds")
        best = nearest(figures)
        tried = tuple(
            MethodReport(method=m, agreement=f.agreement, is_chosen=m == best, figures=f)
            for m, f in figures.items()
        )
        return msgspec.structs.replace(choices[best], tried=tried)

    def _from_cache(self, name: str) -> Choice:
        found = cached_thresholds(self._setting, self._placement, name)
        missing = [*found.without_range, *found.without_entry]
        shown = ", ".join(missing[:_SHOWN]) + (", ..." if len(missing) > _SHOWN else "")
        note = f"{len(missing)} tensors have no range in {Path(name).name} and stay in float: {shown}"
        notes = (note,) if missing else ()
        return Choice(method=FROM_CACHE, amax=dict(found.thresholds), kept=dict(self._kept), notes=notes)

    def _with_sensitive(self, choice: Choice, key: bytes) -> Choice:
        """Keep the layers that cost most in float, no more of them than are needed; `key` is the method's."""
        options = self._options
        reached = max((each.agreement for each in choice.tried if each.is_chosen), default=0.0)
        most = options.most_sensitive
        if most and self._selection and reached < options.agreement_min:
            placement = self._placement.within(choice.amax)
            errors = self._layer_errors(placement, choice, key)
            worst = worst_layers(errors, weighted_layers(self._setting.model.graph()))[:most]
            choice = self._with_fewest(worst, msgspec.structs.replace(choice, errors=errors))
        self._work.save(CHOICE_FILE, key_of(key, options), choice)
        return choice

    def _with_fewest(self, worst: Sequence[str], choice: Choice) -> Choice:
        """Keep of `worst` only as many as do good."""
        graph = self._setting.model.graph()
        kept = {
            count: {**choice.kept, **dict.fromkeys(worst[:count], SENSITIVE)}
            for count in counts_tried(len(worst))
        }
        placements = {count: place(graph, each).within(choice.amax) for count, each in kept.items()}
        without = next((each.figures for each in choice.tried if each.is_chosen), None)
        known = {0: without} if without else {}
        candidates = {
            count: (each, choice.amax)
            for count, each in placements.items()
            if each.layers and count not in known
        }
        figures = {**known, **self._tried(candidates, "keep layers in float")}
        count = fewest_layers(figures, self._options.agreement_min)
        choice = msgspec.structs.replace(choice, kept=kept[count])
        return self._with_other_method(choice, figures[count]) if count else choice

    def _with_other_method(self, choice: Choice, figures: ComparisonFigures) -> Choice:
        """Take another method if it is nearer now that the worst layers, which clip worst, are in float."""
        others = {method: self._by(method) for method in runners_up(choice.tried)}
        placement = self.placement(choice)
        candidates = {method: (placement, each.amax) for method, each in others.items()}
        if not candidates:
            return choice
        best = surely_nearest({choice.method: figures, **self._tried(candidates, "choose again")})
        if best == choice.method:
            return choice
        note = f"With {len(choice.kept)} layers in float {best} comes nearer than {choice.method}"
        tried = tuple(msgspec.structs.replace(each, is_chosen=each.method == best) for each in choice.tried)
        changes = {"method": best, "amax": others[best].amax, "tried": tried, "notes": (*choice.notes, note)}
        return msgspec.structs.replace(choice, **changes)

    def _layer_errors(self, placement: Placement, choice: Choice, key: bytes) -> dict[str, float]:
        frames = spread(self._selection, self._options.sensitivity_frames)
        key = key_of(key, [frame.sha256 for frame in frames])
        errors = self._work.load(LAYERS_FILE, key, dict[str, float]) or {}
        if errors.keys() >= set(placement.layers):
            return errors
        model, tensors = self._setting.model, [frame.tensor for frame in self._setting.frames(frames)]
        with self._progress.stage("measure layers", len(placement.layers)) as stage:
            sensitivity = Sensitivity(model.file.path, model.proto, tensors)

            def done() -> None:
                stage()
                if stage.done % _SAVE_LAYERS == 0:
                    self._work.save(LAYERS_FILE, key, errors)

            measure_layers(sensitivity, self._quantizer, placement, choice.amax, errors, done)
        self._work.save(LAYERS_FILE, key, errors)
        return errors

    def _tried(
        self, candidates: Mapping[Name, tuple[Placement, Thresholds]], stage: str
    ) -> dict[Name, ComparisonFigures]:
        """Return the candidates' figures; the frames are read once for each few of them."""
        names, figures = list(candidates), dict[Name, ComparisonFigures]()
        passes = range(0, len(names), _CANDIDATES_AT_ONCE)
        with self._progress.stage(stage, len(self._selection) * len(passes)) as step:
            for first in passes:
                few = names[first : first + _CANDIDATES_AT_ONCE]
                protos = {str(name): self._quantizer.quantize(*candidates[name]) for name in few}
                found = self._trial.run(protos, self._frames, step)
                figures |= {name: found[str(name)] for name in few}
        return figures

    def _thresholds(self, method: Method) -> dict[str, float]:
        histograms = self._observation.histograms
        return {tensor: threshold(histograms[tensor], method) for tensor in self._placement.tensors}


def runners_up(tried: Sequence[MethodReport]) -> list[Method]:
    """Return the methods whose outputs come nearest beside the chosen one's, none that is far worse."""
    distances = {each.method: distance(each.figures) for each in tried if each.figures}
    allowed = [_NEAR_RATIO * distances.pop(each.method) for each in tried if each.is_chosen]
    near = [method for method in METHODS if method in distances and distances[method] <= max(allowed)]
    return sorted(near, key=lambda method: distances[method])[:_RUNNERS_UP_MAX]


def spread(frames: Sequence[SampleFrame], count: int) -> list[SampleFrame]:
    """Return `count` of the frames, or all, evenly spread: neighbours are nearly the same picture."""
    few = min(count, len(frames))
    return [frames[index * len(frames) // few] for index in range(few)]

"""Chooses how thresholds are set and which layers stay in float, by the selection frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from edgert.calibrate.cache import thresholds_from_cache
from edgert.calibrate.compare.comparison import ComparisonFigures
from edgert.calibrate.compare.trial import Trial
from edgert.calibrate.observe.observation import Observation
from edgert.calibrate.observe.thresholds import METHODS, Method, threshold
from edgert.calibrate.progress import StageProgress
from edgert.calibrate.quantize.layers import matching, weighted_layers
from edgert.calibrate.quantize.placement import Placement, place
from edgert.calibrate.quantize.quantizer import Quantizer
from edgert.calibrate.report.report import MethodReport
from edgert.calibrate.sample.sample_set import SampleFrame
from edgert.calibrate.sensitivity import Sensitivity, measure_layers
from edgert.calibrate.setting import Setting
from edgert.calibrate.work import WorkFolder
from edgert.errors import ConfigError, ModelError
from edgert.models.calibration_cache import read_calibration_cache

FALLBACK: Method = "mse"  # where there is no frame to choose by
FROM_CACHE = "cache"
LAYERS_FILE = "layers.state"
_SAVE_LAYERS = 8  # measured between two writes

Thresholds = Mapping[str, float]


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the choice. `errors` are of layers that were measured, alone in INT8."""

    method: str
    amax: dict[str, float]
    kept: dict[str, str]  # layers in float, and why
    tried: tuple[MethodReport, ...] = ()
    errors: dict[str, float] = {}
    notes: tuple[str, ...] = ()


class Chooser:
    """Makes the choice for one model."""

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
        self._work = work
        self._progress = progress
        self._quantizer = Quantizer(setting.model, observation.channel_means())
        path, options = setting.model.file.path, setting.recipe.options
        self._trial = Trial(path, setting.model.proto, setting.decoder, options.score_min)

    @property
    def quantizer(self) -> Quantizer:
        """What makes the models that are compared."""
        return self._quantizer

    def placement(self, choice: Choice) -> Placement:
        """Return what a choice quantizes."""
        return place(self._setting.model.graph(), choice.kept).within(choice.amax)

    def choose(self, key: bytes) -> Choice:
        """Return thresholds, and the layers that stay in float. Raises ModelError, ConfigError."""
        kept = dict.fromkeys(self._kept_as_asked(), "asked for")
        placement = place(self._setting.model.graph(), kept)
        choice = self._with_method(placement, kept)
        placement = placement.within(choice.amax)
        if not placement.layers:
            raise ModelError(
                f"{self._setting.model.file.path}: has no layer that could be quantized: none has "
                "constant weights, or all are to be kept in float."
            )
        return self._with_sensitive(placement, choice, key)

    def _kept_as_asked(self) -> list[str]:
        options, layers = self._setting.recipe.options.quantize, weighted_layers(self._setting.model.graph())
        for pattern in options.keep:
            if not any(matching(layers, [pattern], ())):
                names = ", ".join(layer.name for layer in layers[:3])
                raise ConfigError(
                    f"{self._setting.recipe.path}: quantize.keep: no layer is called {pattern!r}; there are "
                    f"{len(layers)}, such as {names}"
                )
        return list(matching(layers, options.keep, options.keep_types))

    def _with_method(self, placement: Placement, kept: dict[str, str]) -> Choice:
        options = self._setting.recipe.options.quantize
        if options.cache is not None:
            return self._from_cache(placement, kept, options.cache)
        if options.method != "auto":
            amax = self._thresholds(placement, options.method)
            return Choice(method=options.method, amax=amax, kept=kept)
        if not self._selection:
            amax = self._thresholds(placement, FALLBACK)
            note = f"There were no frames to choose a method by, so it is {FALLBACK}"
            return Choice(method=FALLBACK, amax=amax, kept=kept, notes=(note,))
        return self._best_method(placement, kept)

    def _best_method(self, placement: Placement, kept: dict[str, str]) -> Choice:
        thresholds = {method: self._thresholds(placement, method) for method in METHODS}
        figures = self._tried({m: (placement, amax) for m, amax in thresholds.items()}, "choose thresholds")
        best = max(METHODS, key=lambda method: figures[method].rank)
        tried = tuple(
            MethodReport(method=m, agreement=f.agreement, is_chosen=m == best, figures=f)
            for m, f in figures.items()
        )
        return Choice(method=best, amax=thresholds[best], kept=kept, tried=tried)

    def _from_cache(self, placement: Placement, kept: dict[str, str], name: str) -> Choice:
        file = self._setting.recipe.file(name)
        names = {tensor.name for node in self._setting.model.graph().nodes for tensor in node.outputs}
        names.add(self._setting.model.input_name)
        found = thresholds_from_cache(
            read_calibration_cache(file), file, graph=sorted(names), wanted=placement.tensors
        )
        missing = [*found.without_range, *found.without_entry]
        note = (
            f"{len(missing)} tensors have no range in {file.name} and stay in float: {', '.join(missing[:5])}"
        )
        notes = (note,) if missing else ()
        return Choice(method=FROM_CACHE, amax=dict(found.thresholds), kept=kept, notes=notes)

    def _with_sensitive(self, placement: Placement, choice: Choice, key: bytes) -> Choice:
        """Keep the layers that cost most in float, no more of them than are needed."""
        options = self._setting.recipe.options.quantize
        reached = max((each.agreement for each in choice.tried if each.is_chosen), default=0.0)
        if not options.most_sensitive or not self._selection or reached >= options.agreement_min:
            return choice
        errors = self._layer_errors(placement, choice, key)
        worst = sorted(errors, key=lambda layer: -errors[layer])[: options.most_sensitive]
        kept = {
            str(count): {**choice.kept, **dict.fromkeys(worst[:count], "sensitive")}
            for count in range(len(worst) + 1)
        }
        graph = self._setting.model.graph()
        placements = {name: place(graph, each).within(choice.amax) for name, each in kept.items()}
        figures = self._tried(
            {n: (p, choice.amax) for n, p in placements.items() if p.layers}, "keep layers in float"
        )
        enough = [name for name in figures if figures[name].agreement >= options.agreement_min]
        best = enough[0] if enough else max(figures, key=lambda name: figures[name].rank)
        return msgspec.structs.replace(choice, kept=kept[best], errors=errors)

    def _layer_errors(self, placement: Placement, choice: Choice, key: bytes) -> dict[str, float]:
        errors = self._work.load(LAYERS_FILE, key, dict[str, float]) or {}
        options = self._setting.recipe.options.quantize
        tensors = [
            frame.tensor for frame in self._setting.frames(self._selection[: options.sensitivity_frames])
        ]
        model = self._setting.model
        with self._progress.stage("measure layers", len(placement.layers)) as step:
            sensitivity = Sensitivity(model.file.path, model.proto, tensors)

            def done() -> None:
                step()
                if len(errors) % _SAVE_LAYERS == 0:
                    self._work.save(LAYERS_FILE, key, errors)

            measure_layers(sensitivity, self._quantizer, placement, choice.amax, errors, done)
        self._work.save(LAYERS_FILE, key, errors)
        return errors

    def _tried(
        self, candidates: Mapping[str, tuple[Placement, Thresholds]], stage: str
    ) -> dict[str, ComparisonFigures]:
        with self._progress.stage(stage, len(self._selection)) as step:
            protos = {name: self._quantizer.quantize(*each) for name, each in candidates.items()}
            return self._trial.run(protos, self._setting.frames(self._selection), step)

    def _thresholds(self, placement: Placement, method: Method) -> dict[str, float]:
        histograms = self._observation.histograms
        return {tensor: threshold(histograms[tensor], method) for tensor in placement.tensors}

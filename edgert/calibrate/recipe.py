"""The recipe: what a person writes to have a model calibrated."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from edgert.calibrate.compare.limits import AccuracyLimits, Share
from edgert.calibrate.compare.metrics import COMPARED_SCORE_MIN
from edgert.calibrate.observe.thresholds import Method
from edgert.calibrate.sample.options import SampleOptions
from edgert.config import Document, Options
from edgert.errors import ConfigError
from edgert.models.store import wrong_with

MOST_SENSITIVE_MAX = 16  # each is one more model that the selection frames are run through
LABEL_SUFFIXES = (".csv", ".json")  # of classes; of boxes


class QuantizeOptions(Options, frozen=True, kw_only=True):
    """`[quantize]`: how thresholds are chosen, and what stays in float.

    Layers are kept by name, by operator, or because they cost most: of the `most_sensitive` as few as let the
    selection frames agree to `agreement_min`, or else as well as they can but for chance (see `fewest`).
    """

    method: Literal["auto", Method] = "auto"  # auto: that with which the selection frames agree best
    cache: str | None = None  # TensorRT's calibration cache of this network, instead of a method
    keep: tuple[str, ...] = ()  # names of layers, with * and ?
    keep_types: tuple[str, ...] = ()  # ONNX operators, e.g. Gemm
    most_sensitive: Annotated[int, Meta(ge=0, le=MOST_SENSITIVE_MAX)] = 12
    agreement_min: Share = 1.0
    sensitivity_frames: Annotated[int, Meta(ge=1, le=1000)] = 4  # of the selection; each layer runs them


Calibrator = Literal["entropy2", "minmax", "entropy", "legacy"]  # of TensorRT


class InstallOptions(Options, frozen=True, kw_only=True):
    """`[engine]`: the version of the store that is made. Without the table none is."""

    name: str = ""  # in the store; empty: the model's with -int8 behind it
    runtime: Literal["onnxruntime", "tensorrt", "tensorrt_lean", "tensorrt_dispatch", "tensorrt_rtx"]
    batches: tuple[Annotated[int, Meta(ge=1)], ...] = ()  # a profile for each; of TensorRT
    workspace_mb: Annotated[int, Meta(ge=1)] | None = None
    calibrator: Calibrator | None = None  # TensorRT 10 and older calibrate themselves; absent: Q/DQ nodes
    keep_previous: Annotated[int, Meta(ge=0)] | None = None  # versions; absent: all; of TensorRT
    activate: bool = True  # false: the files are made, the store stays as it is


class RecipeOptions(Options, frozen=True, kw_only=True):
    """A whole recipe. Paths are relative to its folder."""

    store: str
    model: str  # of the store: its [prepare], [decode] and labels say how frames go in and what comes out
    onnx: str | None = None  # the FP32 model; absent: the newest version of `model`, if that is ONNX
    work: str = ""  # folder for frames, report and what is resumed; empty: the recipe's name without .toml
    labels: str | None = None  # what is in the held-out frames: .csv of classes, .json as COCO has it
    score_min: Share = COMPARED_SCORE_MIN  # of a detection that counts; the model's own where that is higher
    sample: SampleOptions
    quantize: QuantizeOptions = QuantizeOptions()
    limits: AccuracyLimits = AccuracyLimits()
    engine: InstallOptions | None = None


class Recipe(msgspec.Struct, frozen=True):
    """A recipe that was read."""

    path: Path
    options: RecipeOptions
    states_score_min: bool = False

    @property
    def folder(self) -> Path:
        """What relative paths begin at."""
        return self.path.absolute().parent

    @property
    def work(self) -> Path:
        """Where everything goes but the engine."""
        return self.file(self.options.work or self.path.stem)

    @property
    def store(self) -> Path:
        """The model store."""
        return self.file(self.options.store)

    @property
    def name(self) -> str:
        """What the INT8 model is called."""
        engine = self.options.engine
        return (engine.name if engine else "") or f"{self.options.model}-int8"

    def file(self, name: str) -> Path:
        """Return a file that the recipe names. Raises ConfigError if it begins with a strange `~user`."""
        return Document(self.path.absolute(), {}).resolve(name)


def load_recipe(path: Path, overrides: Iterable[str] = ()) -> Recipe:
    """Read a recipe with `a.b=value` overrides applied.

    Raises ConfigError naming file, key, value and what was expected.
    """
    document = Document.load(path).override(overrides)
    recipe = Recipe(path, document.as_type(RecipeOptions), "score_min" in document.tree)
    for complaint in _complaints(recipe):
        raise ConfigError(f"{path}: {complaint}")
    try:
        recipe.options.sample.check()
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    return recipe


def _complaints(recipe: Recipe) -> Iterator[str]:
    """Yield what no type can tell."""
    options, quantize = recipe.options, recipe.options.quantize
    if wrong := wrong_with(recipe.name):
        yield f"engine.name = {recipe.name!r}: {wrong}"
    if recipe.name == options.model:
        yield f"engine.name = {recipe.name!r}: is the FP32 model's name; the INT8 model needs its own"
    if options.labels is not None and Path(options.labels).suffix not in LABEL_SUFFIXES:
        yield f"labels = {options.labels!r}: expected a file ending in .csv or .json"
    if quantize.cache is not None and quantize.method != "auto":
        yield f"quantize.method = {quantize.method!r}: the thresholds are in quantize.cache; leave one out"
    engine = options.engine
    if engine is not None and engine.calibrator is not None and engine.runtime != "tensorrt":
        yield (
            f'engine.calibrator = "{engine.calibrator}": only TensorRT 10 and older have calibrators, '
            f'expected engine.runtime = "tensorrt", not "{engine.runtime}". Leave calibrator out: then Q/DQ '
            "nodes go into the model, the main route, which every runtime takes"
        )
    if engine is not None and engine.calibrator is not None and options.limits.are_set:
        yield (
            f'engine.calibrator = "{engine.calibrator}": limits are measured with the Q/DQ model, and with a '
            "calibrator TensorRT builds another one, which nothing measures here. Leave out [limits] or "
            "calibrator"
        )
    yield from _about_frames(recipe)
    if recipe.work == recipe.path.absolute():
        yield 'work = "": would be the recipe itself; let its name end in .toml, or name a folder'


def _about_frames(recipe: Recipe) -> Iterator[str]:
    """Yield what is read from the folder that a calibration writes, and clears, itself."""
    sample, work = recipe.options.sample, recipe.work.resolve()
    named = [("pictures", name) for name in sample.pictures]
    named += [("recording", sample.recording)] if sample.recording else []
    for key, name in named:
        if recipe.file(name).resolve().is_relative_to(work):
            yield (
                f"sample.{key}: {name!r} lies in the folder of work {work}, where edgert removes frames; "
                "name another folder with work"
            )

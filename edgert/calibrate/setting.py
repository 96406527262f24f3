"""What all stages of one calibration work with: the model, and how pictures go in and answers come out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from edgert.build.target import plan_of
from edgert.calibrate.compare.host_models import open_host_model
from edgert.calibrate.compare.labels import read_box_labels, read_class_labels
from edgert.calibrate.compare.trial import TrialFrame, Truth
from edgert.calibrate.quantize.float_model import FloatModel, read_float_model
from edgert.calibrate.recipe import LABEL_SUFFIXES, Recipe
from edgert.calibrate.sample.prepared import prepared
from edgert.calibrate.sample.sample_set import SampleFrame
from edgert.decode.classify import ClassifyOptions
from edgert.decode.decoder import Decoder
from edgert.decode.detect import DetectOptions
from edgert.errors import ConfigError
from edgert.execute.engine import EngineInfo
from edgert.models.store import ModelEntry, ModelStore
from edgert.pipeline.model_plan import ModelPlan, has_batch_axis, told_of
from edgert.prepare.fresh import FreshPreparer

TOP_K = 5  # classes that are compared
SCORE_MIN = 0.01  # of the boxes that go into a mean average precision


class Setting(msgspec.Struct, frozen=True):
    """The FP32 model as the service would run it."""

    recipe: Recipe
    plan: ModelPlan
    model: FloatModel
    info: EngineInfo
    preparer: FreshPreparer
    decoder: Decoder
    truths: Mapping[str, Truth]  # what is in frames, by names as somebody wrote them down

    def frames(self, samples: Sequence[SampleFrame]) -> Iterator[TrialFrame]:
        """Yield sampled frames, prepared, one at a time. Raises ConfigError, ModelError."""
        for sample, tensor, placement in prepared(samples, self.recipe.work, self.preparer):
            yield TrialFrame(sample.file, tensor, placement)


def open_setting(recipe: Recipe) -> Setting:
    """Read the model and what the store says of it. Blocks for a second or more.

    Raises:
        ConfigError: recipe and store do not fit together.
        ModelError: the model cannot be calibrated.
    """
    entry = ModelStore(recipe.store).entry(recipe.options.model)
    plan = plan_of(entry)
    model = read_float_model(_float_file(recipe, entry))
    with open_host_model(model.file.path, model.proto) as opened:
        info = opened.info
    [spec] = info.inputs
    item_shape = spec.shape[1:] if has_batch_axis(info) else spec.shape
    with told_of(plan.entry.settings.path, "prepare"):
        preparer = FreshPreparer(plan.settings.prepare, item_shape, spec.dtype)
    decoder = _decoder(plan, info, recipe)
    return Setting(recipe, plan, model, info, preparer, decoder, _truths(recipe, plan))


def _float_file(recipe: Recipe, entry: ModelEntry) -> Path:
    if recipe.options.onnx is not None:
        return recipe.file(recipe.options.onnx)
    file = entry.engine_file(entry.chosen_versions()[-1])
    if file.suffix != ".onnx":
        raise ConfigError(
            f"{recipe.path}: model {entry.name} runs {file}, which is no ONNX file; say with onnx = "
            '"model.onnx" which FP32 model is to be calibrated'
        )
    return file


def _decoder(plan: ModelPlan, info: EngineInfo, recipe: Recipe) -> Decoder:
    """Return the model's decoder, of classes with as many and of boxes with as low scores as are compared."""
    decode = plan.settings.decode
    if isinstance(decode, ClassifyOptions):
        decode = msgspec.structs.replace(decode, top_k=max(decode.top_k, TOP_K))
    elif isinstance(decode, DetectOptions) and recipe.options.labels is not None:
        decode = msgspec.structs.replace(decode, score_min=SCORE_MIN)
    settings = msgspec.structs.replace(plan.settings, decode=decode)
    return msgspec.structs.replace(plan, settings=settings).open_decoder(info)


def _truths(recipe: Recipe, plan: ModelPlan) -> Mapping[str, Truth]:
    """Return what is known of frames; the file has to be of the kind that the model finds."""
    name, decode = recipe.options.labels, plan.settings.decode
    if name is None:
        return {}
    file, labels = recipe.file(name), plan.entry.labels()
    is_csv = file.suffix == LABEL_SUFFIXES[0]
    if not isinstance(decode, ClassifyOptions if is_csv else DetectOptions):
        told = "classes" if is_csv else "boxes"
        raise ConfigError(
            f"{recipe.path}: labels = {name!r}: tells {told}, and the model's [decode] gives none; "
            "it takes .csv for classes and .json for boxes"
        )
    truths: dict[str, Truth] = {}
    truths.update(read_class_labels(file, labels) if is_csv else read_box_labels(file, labels))
    return truths

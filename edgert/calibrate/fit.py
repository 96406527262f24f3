"""Refuses before any frame is taken what could only fail minutes later."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from edgert.calibrate.asked import cached_thresholds, placement_asked_for
from edgert.calibrate.deliver import check_delivery
from edgert.calibrate.quantize.placement import Placement
from edgert.calibrate.setting import Setting
from edgert.decode.classify import ClassifyOptions
from edgert.decode.detect import DetectOptions
from edgert.errors import ConfigError

_OF_CLASSES = frozenset({"top1_agreement_min", "accuracy_drop_max"})
_OF_BOXES = frozenset({"recall_min", "precision_min", "score_error_max", "map_drop_max"})
_OF_LABELS = frozenset({"accuracy_drop_max", "map_drop_max"})


def check_fit(setting: Setting) -> Placement:
    """Return what the recipe lets be quantized.

    Raises:
        ConfigError: recipe, model, store and what is installed do not go together.
        ModelError: nothing could be quantized.
    """
    placement, _ = placement_asked_for(setting)
    options = setting.recipe.options
    if options.quantize.cache is not None:
        cached_thresholds(setting, placement, options.quantize.cache)
    for complaint in _about_limits(setting):
        raise ConfigError(f"{setting.recipe.path}: {complaint}")
    if options.engine is not None and options.engine.activate:
        check_delivery(setting, options.engine)
    return placement


def _about_limits(setting: Setting) -> Iterator[str]:
    """Yield which limits nothing would ever be measured for."""
    options, decode = setting.recipe.options, setting.plan.settings.decode
    given = {name for name, limit in msgspec.structs.asdict(options.limits).items() if limit is not None}
    for what, names, kind in (("classes", _OF_CLASSES, ClassifyOptions), ("boxes", _OF_BOXES, DetectOptions)):
        if given & names and not isinstance(decode, kind):
            yield f"limits.{min(given & names)}: is of {what}, and the model's [decode] gives none"
    if given & _OF_LABELS and options.labels is None:
        yield f"limits.{min(given & _OF_LABELS)}: needs labels, the file that says what is in the frames"

"""Compares the INT8 model with FP32 on the frames that nothing was chosen by."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import onnx

from edgert.calibrate.compare.changed import ChangedFrame, MostChanged
from edgert.calibrate.compare.comparison import ComparisonFigures
from edgert.calibrate.compare.labels import labelled
from edgert.calibrate.compare.trial import REFERENCE, Change, Trial
from edgert.calibrate.sample.sample_set import SampleFrame
from edgert.calibrate.setting import Setting

CANDIDATE = "int8"


class HeldOut(msgspec.Struct, frozen=True, kw_only=True):
    """What was found. Times are of each frame on the host, copies included."""

    figures: ComparisonFigures | None = None  # None: no frame was held out
    labelled: int = 0  # frames whose content is known
    reference_ms: Sequence[float] = ()
    candidate_ms: Sequence[float] = ()
    changed: Sequence[ChangedFrame] = ()  # the most first
    notes: Sequence[str] = ()


def compare_held_out(
    setting: Setting, samples: Sequence[SampleFrame], proto: onnx.ModelProto, step: Callable[[], None]
) -> HeldOut:
    """Run both models on the frames. `step` is called after each. Raises ConfigError, ModelError."""
    if not samples:
        return HeldOut()
    truths = labelled([sample.file for sample in samples], setting.truths).truths
    changed = MostChanged()

    def note(change: Change) -> None:
        placement = change.frame.placement
        size = placement.source_width, placement.source_height
        changed.add(change.frame.name, change.difference, size, change.reference, change.candidate)

    score_min = setting.recipe.options.score_min
    trial = Trial(setting.model.file.path, setting.model.proto, setting.decoder, score_min)
    figures = trial.run({CANDIDATE: proto}, setting.frames(samples), step, truths.get, note)
    return HeldOut(
        figures=figures[CANDIDATE],
        labelled=len(truths),
        notes=(_note(len(setting.truths), len(truths)),) if len(truths) < len(setting.truths) else (),
        reference_ms=trial.run_ms[REFERENCE],
        candidate_ms=trial.run_ms[CANDIDATE],
        changed=changed.frames(),
    )


def _note(known: int, used: int) -> str:
    return f"{known - used} of the {known} labelled frames are not held out, and count for nothing"

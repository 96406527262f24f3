"""The COCO detector on a fixed street camera: the clip's beginning calibrates, its end is held out."""

from __future__ import annotations

from pathlib import Path

from edgert.decode.ssd import SsdDecoder, SsdOptions
from edgert.demo.fetch import FetchError
from edgert.demo.material import Material
from edgert.frames.placement import Placement
from edgert.frames.result import Detections
from edgert.prepare.options import PrepareOptions
from tests.int8_bench.agreement import Matches, match_detections
from tests.int8_bench.packages import OPENCV, package_folder
from tests.int8_bench.pictures import clip_frames, spread
from tests.int8_bench.session import Outputs
from tests.int8_bench.workload import Figures, Workload, prepared, write_calibration

CLIP_SIZE = (768, 576)
CLIP_FRAMES = 795
CALIBRATION_END = 400
HELD_OUT_START = 450
FRAMES = 100
MANY_FRAMES = 500
RECALL_MIN, PRECISION_MIN, ERROR_MAX = 0.990, 0.995, 0.016
PREPARE = PrepareOptions(fit="stretch", colour="rgb", mean=127.5, scale=1 / 127.5)
ITEM_SHAPE = (3, 300, 300)
OPTIONS = SsdOptions(score_min=0.5)


def open_workload(cache: Path, material: Material, folder: Path, *, quick: bool) -> Workload:
    """Write the frames that calibrate, and those of the long run, whose memory alone is looked at."""
    if material.coco is None:
        raise FetchError(material.left_out[0])
    clip = package_folder(OPENCV, cache) / OPENCV.proof
    frames, many = (FRAMES // 10, MANY_FRAMES // 10) if quick else (FRAMES, MANY_FRAMES)
    chosen = clip_frames(clip, spread(0, CALIBRATION_END, frames))
    all_over = clip_frames(clip, spread(0, CLIP_FRAMES, many))
    held_out = clip_frames(clip, spread(HELD_OUT_START, CLIP_FRAMES, frames))
    return Workload(
        name="coco",
        title="COCO SSD",
        model=material.coco.model,
        prepare=PREPARE,
        calibration=write_calibration(folder / "some", chosen, PREPARE, ITEM_SHAPE, frames),
        many_frames=write_calibration(folder / "many", all_over, PREPARE, ITEM_SHAPE, many),
        held_out=prepared(held_out, PREPARE, ITEM_SHAPE),
        batch=1,
        score=_score,
        say=lambda f: (
            f"recall {f['recall']:.3f}, precision {f['precision']:.3f}, score error {f['score_error']:.4f} "
            f"({f['reference']:.0f} boxes)"
        ),
        limit=f">= {RECALL_MIN:.3f}, {PRECISION_MIN}, <= {ERROR_MAX}",
        is_met=is_good,
        has_time_limit=True,
    )


def is_good(found: Figures) -> bool:
    """Say whether figures, none of them rounded, reach what is wanted."""
    is_found = found["recall"] >= RECALL_MIN and found["precision"] >= PRECISION_MIN
    return is_found and found["score_error"] <= ERROR_MAX


def _score(reference: Outputs, outputs: Outputs) -> Figures:
    total = Matches()
    for one, other in zip(_detections(reference), _detections(outputs), strict=True):
        total = total.plus(match_detections(one, other))
    return total.figures()


def _detections(outputs: Outputs) -> list[Detections]:
    decoder = SsdDecoder(OPTIONS, [], {name: value.shape[1:] for name, value in outputs.items()})
    placement = Placement.stretch(*CLIP_SIZE, *ITEM_SHAPE[:0:-1])
    rows = (dict(zip(outputs, row, strict=True)) for row in zip(*outputs.values(), strict=True))
    return [decoder.decode(row, placement) for row in rows]

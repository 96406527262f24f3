"""EfficientNet-Lite0 on photographs: 20 of ImageNet and 40 of OpenCV's are held out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2

from edgert.demo.material import Material
from edgert.frames.result import Array
from edgert.prepare.options import PrepareOptions
from tests.int8_bench.agreement import cosines, same_top1
from tests.int8_bench.packages import OPENCV, package_folder
from tests.int8_bench.pictures import clip_frames, crops, read_pictures, split_pictures, spread
from tests.int8_bench.session import Outputs
from tests.int8_bench.workload import Figures, Workload, prepared, write_calibration

HELD_OUT = 60
SAME_SHARE_MIN = 56 / 60
COSINE_MIN = 0.988
SIZE_LIMIT_MB = 5.5
FRAMES_A_CLIP = 12
CLIP_FRAMES = 120  # the shortest of the clips has as many
PREPARE = PrepareOptions(fit="crop", keep=0.875, colour="rgb", mean=127.0, scale=1 / 128)
ITEM_SHAPE = (3, 224, 224)


def open_workload(cache: Path, material: Material, folder: Path, *, quick: bool) -> Workload:
    """Split the pictures, and write those that calibrate, their corners, and frames of clips."""
    opencv = package_folder(OPENCV, cache)
    split = split_pictures(read_pictures(opencv), HELD_OUT - len(material.pictures))
    held_out = [*material.pictures, *split.held_out]
    clips = [material.street_clip, material.driver_clip, opencv / OPENCV.proof, opencv / "data/Megamind.avi"]
    images = list(_calibration(split.calibration, clips))[:: 8 if quick else 1]
    return Workload(
        name="classify",
        title="EfficientNet-Lite0",
        model=material.classify.model,
        prepare=PREPARE,
        calibration=write_calibration(folder, images, PREPARE, ITEM_SHAPE, len(images)),
        held_out=prepared((cv2.imread(str(path)) for path in held_out), PREPARE, ITEM_SHAPE),
        batch=1,
        score=_score,
        say=lambda f: f"same top-1 {f['same_top1']:.0f} of {f['frames']:.0f}, cosine {f['cosine']:.4f}",
        limit=f">= 56, {COSINE_MIN}",
        is_met=lambda f: f["same_top1"] >= SAME_SHARE_MIN * f["frames"] and f["cosine"] >= COSINE_MIN,
        size_limit_mb=SIZE_LIMIT_MB,
        notes={"held_out": [path.name for path in held_out], "calibration_frames": len(images)},
    )


def _calibration(paths: list[Path], clips: list[Path]) -> Iterator[Array]:
    for path in paths:
        image = cv2.imread(str(path))
        yield image
        yield from crops(image)
    for clip in clips:
        yield from clip_frames(clip, spread(0, CLIP_FRAMES, FRAMES_A_CLIP))


def _score(reference: Outputs, outputs: Outputs) -> Figures:
    ours, theirs = outputs["logits"], reference["logits"]
    angles = cosines(theirs, ours)
    return {
        "same_top1": same_top1(theirs, ours),
        "cosine": float(angles.mean()),
        "cosine_min": float(angles.min()),
        "frames": len(theirs),
    }

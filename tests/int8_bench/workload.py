"""A model, what calibrates it, what is held out, and how near to FP32 counts as good."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edgert.frames.result import Array
from edgert.prepare.convert import Preparer
from edgert.prepare.options import PrepareOptions
from tests.int8_bench.session import Outputs

Figures = dict[str, float]


@dataclass(frozen=True)
class Calibration:
    """The same frames twice: as PNG files, and prepared in one .npy."""

    pictures: Path
    tensors: Path
    frames: int


@dataclass(frozen=True)
class Workload:
    """One network of the table. `score` compares outputs on what is held out with FP32's."""

    name: str
    title: str
    model: Path
    prepare: PrepareOptions
    calibration: Calibration
    held_out: Array  # (frames, channels, height, width) float32
    batch: int
    score: Callable[[Outputs, Outputs], Figures]
    say: Callable[[Figures], str]
    limit: str
    is_met: Callable[[Figures], bool]
    size_limit_mb: float | None = None
    many_frames: Calibration | None = None  # for the memory of a long calibration
    has_time_limit: bool = False
    notes: dict[str, Any] = field(default_factory=dict)


def write_calibration(
    folder: Path, images: Iterable[Array], prepare: PrepareOptions, item_shape: tuple[int, ...], count: int
) -> Calibration:
    """Write `count` pictures (BGR or gray, uint8) as files and as tensors, one at a time."""
    pictures, tensors = folder / "pictures", folder / "tensors.npy"
    pictures.mkdir(parents=True)
    shape = (count, *item_shape)
    placed = np.lib.format.open_memmap(tensors, mode="w+", dtype=np.float32, shape=shape)
    preparer = Preparer(prepare, item_shape, "float32")
    for number, image in enumerate(images):
        name = str(pictures / f"{number:05}.png")
        cv2.imwrite(name, image, [cv2.IMWRITE_PNG_COMPRESSION, 1])
        preparer.place(np.ascontiguousarray(image), _format_of(image), placed[number])
    placed.flush()
    return Calibration(pictures, tensors, count)


def prepared(images: Iterable[Array], prepare: PrepareOptions, item_shape: tuple[int, ...]) -> Array:
    """Return pictures as tensors, (n, *item_shape) float32."""
    preparer, tensors = Preparer(prepare, item_shape, "float32"), []
    for image in images:
        tensor = np.empty(item_shape, np.float32)
        preparer.place(np.ascontiguousarray(image), _format_of(image), tensor)
        tensors.append(tensor)
    return np.stack(tensors)


def _format_of(image: Array) -> str:
    return "gray8" if image.ndim == 2 else "bgr8"

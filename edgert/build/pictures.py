"""Reads pictures from files and prepares them as a model wants them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgert.build.compare import Example
from edgert.errors import ConfigError, FrameError, ModelError
from edgert.models.tensor_spec import TensorSpec
from edgert.pipeline.model_plan import ModelPlan, told_of

SUFFIXES = {".jpg": "jpeg", ".jpeg": "jpeg", ".png": "png"}
MAX_BYTES = 64 << 20


def list_pictures(paths: Sequence[Path]) -> tuple[Path, ...]:
    """Return the pictures among `paths`, and those in the folders among them. Raises ConfigError."""
    found: list[Path] = []
    for path in paths:
        if not path.exists():
            raise ConfigError(f"--frames {path}: no such file or folder")
        inside = sorted(path.iterdir()) if path.is_dir() else [path]
        found += [file for file in inside if file.suffix.lower() in SUFFIXES]
    if paths and not found:
        raise ConfigError(
            f"--frames {paths[0]}: holds no picture, expected files ending in {', '.join(SUFFIXES)}"
        )
    return tuple(found)


def prepare_pictures(
    plan: ModelPlan, spec: TensorSpec, files: Sequence[Path], *, has_batch_axis: bool
) -> list[Example]:
    """Return the pictures as tensors for the input `spec`. Raises ConfigError, ModelError."""
    from edgert.prepare.convert import Preparer  # OpenCV only where pictures are prepared

    item_shape = spec.shape[1:] if has_batch_axis else spec.shape
    with told_of(plan.entry.settings.path, "prepare"):
        preparer = Preparer(plan.settings.prepare, item_shape, spec.dtype)
    examples = []
    for file in files:
        image = _read(file)
        tensor = np.empty(preparer.shape_for("bgr8", *image.shape[:2]), spec.dtype)
        try:
            placement = preparer.place(image, "bgr8", tensor)
        except FrameError as error:
            raise ModelError(f"{file}: does not fit the model: {error}") from error
        examples.append(Example(file.name, tensor, placement))
    return examples


def _read(file: Path) -> np.ndarray:
    from edgert.capture.picture import decode_picture, picture_size

    kind = SUFFIXES[file.suffix.lower()]
    try:
        with file.open("rb") as opened:
            content = opened.read(MAX_BYTES)
        picture_size(kind, content)
        return decode_picture(kind, content)
    except (OSError, FrameError) as error:
        raise ConfigError(f"--frames {file}: cannot be read: {error}") from error

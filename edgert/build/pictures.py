"""Reads pictures from files and prepares them as a model wants them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgert.build.compare import Example
from edgert.capture import picture_file
from edgert.errors import ConfigError, FrameError, ModelError
from edgert.models.tensor_spec import TensorSpec
from edgert.pipeline.model_plan import ModelPlan, told_of

OPTION = "--frames"


def list_pictures(paths: Sequence[Path]) -> tuple[Path, ...]:
    """Return the pictures among `paths`, and those in the folders among them. Raises ConfigError."""
    return picture_file.list_pictures(paths, OPTION)


def prepare_pictures(
    plan: ModelPlan, spec: TensorSpec, files: Sequence[Path], *, has_batch_axis: bool
) -> list[Example]:
    """Return the pictures as tensors for the input `spec`. Raises ConfigError, ModelError."""
    from edgert.prepare.fresh import FreshPreparer  # OpenCV only where pictures are prepared

    item_shape = spec.shape[1:] if has_batch_axis else spec.shape
    with told_of(plan.entry.settings.path, "prepare"):
        preparer = FreshPreparer(plan.settings.prepare, item_shape, spec.dtype)
    examples = []
    for file in files:
        try:
            image, pixel_format = picture_file.read_frame(file)
        except FrameError as error:
            raise ConfigError(f"{OPTION} {file}: cannot be read: {error}") from error
        try:
            tensor, placement = preparer.prepare(image, pixel_format)
        except FrameError as error:
            raise ModelError(f"{file}: does not fit the model: {error}") from error
        examples.append(Example(file.name, tensor, placement))
    return examples

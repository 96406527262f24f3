"""Sampled frames as tensors, one at a time, prepared as the service would."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from edgert.calibrate.sample.sample_set import SampleFrame
from edgert.capture.picture_file import read_frame
from edgert.errors import ConfigError, FrameError, ModelError
from edgert.frames.placement import Placement
from edgert.frames.result import Array
from edgert.prepare.fresh import FreshPreparer


def prepared(
    frames: Iterable[SampleFrame], folder: Path, preparer: FreshPreparer
) -> Iterator[tuple[SampleFrame, Array, Placement]]:
    """Yield each frame with a new tensor, without a batch axis, and how it stands there.

    `folder` is where the list of samples lies. One picture is in memory at a time.

    Raises:
        ConfigError: a file is gone or damaged.
        ModelError: a frame does not fit the model.
    """
    for frame in frames:
        path = folder / frame.file
        try:
            image, pixel_format = read_frame(path)
        except FrameError as error:
            raise ConfigError(f"{path}: cannot be used: {error}") from error
        try:
            tensor, placement = preparer.prepare(image, pixel_format)
        except FrameError as error:
            raise ModelError(f"{path}: does not fit the model: {error}") from error
        yield frame, tensor, placement

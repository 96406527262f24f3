"""From a batch of frames to a lane's input tensor: by arrays on the host, by kernels on a device."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from typing import Protocol

import msgspec
import numpy as np

from edgert.device.driver import Stream
from edgert.errors import EdgertError, FrameError, OutOfDeviceMemoryError
from edgert.execute.engine import BufferSet, DeviceTensor
from edgert.frames.frame import Frame, image_bytes, image_shape
from edgert.frames.placement import Placement
from edgert.frames.result import Array
from edgert.prepare.upload import Uploader
from edgert.schedule.route import Route

Shape = tuple[int, ...]

WARM_UP_SIDE = 64  # of the picture, where the engine takes any size


class Batch(msgspec.Struct, gc=False, eq=False):
    """Frames that run together, with the routes they came by.

    Placements come as the frames are prepared; a frame that cannot be has the error in its place.
    """

    routes: list[Route]
    frames: list[Frame]
    placements: list[Placement | EdgertError]

    def release_slots(self) -> None:
        """Give the frames' claims back."""
        for frame in self.frames:
            frame.slot.release()


class InputLayout(msgspec.Struct, frozen=True):
    """The input tensor that takes pictures. -1 is an open side."""

    model: str
    name: str
    dtype: str
    item: Shape  # of one picture, as preparation sees it
    engine_item: Shape  # of one picture, as the engine sees it
    has_batch_axis: bool
    max_batch: int
    takes_any_batch: bool  # else every batch is `max_batch` long

    def engine_shape(self, count: int, item_shape: Shape) -> Shape:
        """Return the whole tensor's shape for `count` pictures."""
        return self.axis(count) + (self.engine_item if self.engine_item != self.item else item_shape)

    def axis(self, count: int) -> Shape:
        """Return the batch axis: one side, or none."""
        return (count if self.takes_any_batch else self.max_batch,) * self.has_batch_axis

    def demand_fitting(self, frame: Frame, item_shape: Shape) -> None:
        """Refuse a batch that the engine cannot take. Raises FrameError."""
        if not all(own in (-1, side) for own, side in zip(self.item, item_shape, strict=True)):
            raise FrameError(
                f"A frame of {frame.width}x{frame.height} becomes a tensor of {list(item_shape)}; "
                f"model {self.model} takes {list(self.item)}."
            )

    def warm_up_item(self, wanted: Shape) -> Shape:
        """Return the shape of a picture that the engine takes, with `wanted` for its open sides."""
        return tuple(want if side < 0 else side for side, want in zip(self.item, wanted, strict=True))


class Preparer(Protocol):
    """What a lane asks of preparation on the host; see `prepare.convert.Preparer`."""

    def shape_for(self, pixel_format: str, height: int, width: int) -> Shape:
        """Return the tensor shape of one such frame, without the batch axis."""

    def place(self, image: Array, pixel_format: str, item_out: Array) -> Placement:
        """Write the frame into its place in the tensor."""


class DevicePreparer(Protocol):
    """What a lane asks of preparation on a device; see `prepare.kernels.KernelPreparer`."""

    def shape_for(self, pixel_format: str, height: int, width: int) -> Shape:
        """Return the tensor shape of one such frame, without the batch axis."""

    def place(
        self,
        source_address: int,
        pixel_format: str,
        height: int,
        width: int,
        item_address: int,
        stream: Stream,
    ) -> Placement:
        """Enqueue the writing of the frame into its place in the tensor."""


class Filler(Protocol):
    """Fills one lane's inputs."""

    def shape_for(self, pixel_format: str, height: int, width: int) -> Shape:
        """Return the tensor shape of one such frame, without the batch axis. Any thread."""

    def fill(self, batch: Batch, buffers: BufferSet) -> None:
        """Prepare every frame; the slots are read until the lane says so. Raises FrameError."""

    def fill_zeros(self, buffers: BufferSet, count: int) -> None:
        """Fill with `count` black pictures, to warm up."""


class HostFiller:
    """Fills arrays, on the lane's thread."""

    def __init__(self, layout: InputLayout, preparer: Preparer) -> None:
        self._layout = layout
        self._preparer = preparer
        self.shape_for = preparer.shape_for

    def fill(self, batch: Batch, buffers: BufferSet) -> None:
        """Prepare every frame now."""
        first = batch.frames[0]
        item_shape = self.shape_for(first.format, first.height, first.width)
        self._layout.demand_fitting(first, item_shape)
        tensor = self._tensor(buffers, len(batch.frames), item_shape)
        for place, frame in zip(tensor, batch.frames, strict=False):
            frame.slot.begin_read()
            batch.placements.append(self._place(frame, place))

    def fill_zeros(self, buffers: BufferSet, count: int) -> None:
        """Fill with zeros."""
        item_shape = self._layout.warm_up_item(self.shape_for("bgr8", WARM_UP_SIDE, WARM_UP_SIDE))
        for place in self._tensor(buffers, count, item_shape):
            place[...] = 0

    def _place(self, frame: Frame, item_out: Array) -> Placement | EdgertError:
        try:
            return self._preparer.place(frame.image(), frame.format, item_out)
        except EdgertError as error:  # of this frame; the others of its batch go on
            return error

    def _tensor(self, buffers: BufferSet, count: int, item_shape: Shape) -> Iterable[Array]:
        """Return the places of the batch's frames in the input tensor."""
        layout = self._layout
        tensor = buffers.inputs({layout.name: layout.engine_shape(count, item_shape)})[layout.name]
        assert not isinstance(tensor, DeviceTensor)  # noqa: S101 - lanes of the host have arrays
        places = tensor.reshape(layout.axis(count) + item_shape)
        return places if layout.has_batch_axis else [places]


class DeviceFiller:
    """Enqueues copies and kernels on the lane's stream."""

    def __init__(self, layout: InputLayout, preparer: DevicePreparer, uploader: Uploader) -> None:
        self._layout = layout
        self._preparer = preparer
        self._uploader = uploader
        self._item_bytes = np.dtype(layout.dtype).itemsize
        self.shape_for = preparer.shape_for

    def fill(self, batch: Batch, buffers: BufferSet) -> None:
        """Enqueue the preparation of every frame."""
        first, stream = batch.frames[0], buffers.stream
        assert stream is not None  # noqa: S101 - lanes of a device have one
        item_shape = self.shape_for(first.format, first.height, first.width)
        self._layout.demand_fitting(first, item_shape)
        address = self._tensor(buffers, len(batch.frames), item_shape).address
        step = prod(item_shape) * self._item_bytes
        for frame in batch.frames:
            frame.slot.begin_read()
            batch.placements.append(self._place(frame, address, stream))
            address += step

    def fill_zeros(self, buffers: BufferSet, count: int) -> None:
        """Enqueue zeros."""
        assert buffers.stream is not None  # noqa: S101 - see `fill`
        item_shape = self._layout.warm_up_item(self.shape_for("bgr8", WARM_UP_SIDE, WARM_UP_SIDE))
        tensor = self._tensor(buffers, count, item_shape)
        buffers.stream.zero(tensor.address, prod(tensor.shape) * self._item_bytes)

    def _place(self, frame: Frame, item_address: int, stream: Stream) -> Placement | EdgertError:
        height, width = frame.height, frame.width
        try:
            size = image_bytes(image_shape(frame.format, height, width))
            source = self._uploader.address(frame.slot, size, stream)
            return self._preparer.place(source, frame.format, height, width, item_address, stream)
        except (FrameError, OutOfDeviceMemoryError) as error:  # of this frame; all else is the batch's
            return error

    def _tensor(self, buffers: BufferSet, count: int, item_shape: Shape) -> DeviceTensor:
        layout = self._layout
        tensor = buffers.inputs({layout.name: layout.engine_shape(count, item_shape)})[layout.name]
        assert isinstance(tensor, DeviceTensor)  # noqa: S101 - lanes of a device have these
        return tensor

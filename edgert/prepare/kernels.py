"""Pictures into tensors on the device: what `convert` does, as one kernel on a stream.

Against `convert.Preparer`, measured with OpenCV 4.8, 4.10 and 5.0 on x86-64 over every format, in levels
of 0..255 (mean, scale and type are equal to the bit):

- none and linear: equal; where a source side times a tensor side (in lowest terms) is above 2^23, one
  level in 1.6 % of values at most;
- area: one level in at most 4 of 10,000 values, as averages are summed in another order;
- nearest: equal but where a centre falls on the border of two source pixels (with OpenCV 4, within 1/100
  pixel of it). The kernel takes the right or lower one, OpenCV either.

The kernel is compiled where edgert is built (`make kernels`), never on a board: see `load_kernel_image`.
"""

from __future__ import annotations

import ctypes
import hashlib
from collections import OrderedDict
from math import gcd
from pathlib import Path
from typing import ClassVar, NamedTuple

from edgert.device.driver import Driver, Stream
from edgert.errors import ConfigError, DeviceError, FrameError
from edgert.frames.frame import image_shape
from edgert.frames.placement import Placement, Rect
from edgert.prepare.geometry import (
    Size,
    Target,
    fit_frame,
    item_shape_for,
    read_target,
    sampling,
    tensor_size,
)
from edgert.prepare.options import PrepareOptions
from edgert.prepare.values import PixelValues

KEPT_PLANS = 32  # source geometries remembered at a time, half a kilobyte each
KERNEL = "prepare_frame"
BLOCK = (32, 8, 1)  # tensor columns and rows that one block of threads makes, a thread a pixel
MAX_SIDES = 1 << 30  # a source side times a tensor side: positions are 32 bit numbers

IMAGE_FOLDER = Path(__file__).with_name("cuda")
CUDA13_IMAGE = "kernels-cuda13.fatbin"
CUDA12_IMAGE = "kernels-cuda12-sm87.cubin"
OLDEST_COMPUTE = (8, 7)

# As in cuda/parameters.cuh.
_COLOUR, _GRAY, _COLOUR_TO_GRAY, _NV12 = range(4)
_INTERPOLATIONS = {"linear": 0, "area": 1, "nearest": 2, None: 0}
_TYPES = {"float32": 0, "float16": 1, "uint8": 2, "int8": 3}


class _Axis(ctypes.Structure):
    _fields_: ClassVar = [
        (name, ctypes.c_int32)
        for name in (
            *("part_start", "part_size", "place_start", "place_size"),
            *("source_size", "tensor_size", "numerator", "denominator"),
        )
    ]


class KernelParameters(ctypes.Structure):
    """The kernel's one argument, `Parameters` in cuda/parameters.cuh."""

    _fields_: ClassVar = [
        ("source", ctypes.c_uint64),
        ("item", ctypes.c_uint64),
        ("x", _Axis),
        ("y", _Axis),
        ("pixels", ctypes.c_int32),
        ("interpolation", ctypes.c_int32),
        ("type", ctypes.c_int32),
        ("is_planar", ctypes.c_int32),
        ("channels", ctypes.c_int32),
        ("is_reversed", ctypes.c_int32),
        ("rounds_half_up", ctypes.c_int32),
        ("pad", ctypes.c_int32),
        ("mean", ctypes.c_float * 3),
        ("scale", ctypes.c_float * 3),
    ]


class _Plan(NamedTuple):
    """All about one source geometry; for a frame only the two addresses are set."""

    parameters: KernelParameters
    grid: tuple[int, int, int]
    placement: Placement


class KernelPreparer:
    """Writes frames into places in an input tensor, on a stream. One for each lane; one thread at a time."""

    def __init__(
        self,
        options: PrepareOptions,
        item_shape: tuple[int, ...],
        dtype: str,
        driver: Driver,
        image: bytes,
    ) -> None:
        """Take the tensor as `convert.Preparer` does, and an open driver for which `image` was compiled.

        Raises:
            ModelError: the options do not fit the tensor.
            DeviceError: the image has no kernel for this device.
        """
        self._options = options
        self._target = read_target(options, item_shape)
        self._values = PixelValues(options, self._target.channels, dtype)
        self._kernel = driver.load_kernel(image, KERNEL)
        self._plans: OrderedDict[tuple[str, int, int], _Plan] = OrderedDict()

    def shape_for(self, pixel_format: str, height: int, width: int) -> tuple[int, ...]:
        """Return the tensor shape of one such frame, without the batch axis. Any thread; never raises."""
        return item_shape_for(self._options, self._target, (width, height))

    def place(
        self,
        source_address: int,
        pixel_format: str,
        height: int,
        width: int,
        item_address: int,
        stream: Stream,
    ) -> Placement:
        """Enqueue one kernel that writes a picture into its place; return at once how it will stand there.

        Both addresses are the device's. The picture (uint8, rows without gaps, see `frames.frame`) has to
        stay until the stream is past the kernel. The place is contiguous, aligned to the tensor's type and of
        `shape_for` this frame; all of it is written.

        Raises:
            FrameError: the picture's size is impossible in its format, or fit is "none" and it is wrong.
            DeviceError: the stream refuses the launch.
        """
        key = (pixel_format, height, width)
        parameters, grid, placement = self._plans.get(key) or self._add_plan(key)
        parameters.source = source_address
        parameters.item = item_address
        stream.launch_kernel(self._kernel, grid, BLOCK, parameters)  # which copies the parameters
        return placement

    def _add_plan(self, key: tuple[str, int, int]) -> _Plan:
        pixel_format, height, width = key
        image_shape(pixel_format, height, width)
        tensor = tensor_size(self._options, self._target, (width, height))
        if max(width, height) * max(tensor) >= MAX_SIDES:
            raise FrameError(f"A frame {width}x{height} is too large for a tensor {tensor[0]}x{tensor[1]}.")
        plan = _plan(self._options, self._target, self._values, pixel_format, (width, height), tensor)
        if len(self._plans) >= KEPT_PLANS:
            self._plans.popitem(last=False)
        self._plans[key] = plan
        return plan


def _plan(
    options: PrepareOptions,
    target: Target,
    values: PixelValues,
    pixel_format: str,
    source: Size,
    tensor: Size,
) -> _Plan:
    part, place = fit_frame(options, source, tensor)
    pixels, is_reversed = _pixels(pixel_format, options.colour)
    parameters = KernelParameters(
        x=_axis(part, place, source, tensor, 0),
        y=_axis(part, place, source, tensor, 1),
        pixels=pixels,
        interpolation=_INTERPOLATIONS[sampling(options, part, place)],
        type=_TYPES[values.dtype.name],
        is_planar=target.is_planar,
        channels=target.channels,
        is_reversed=is_reversed,
        rounds_half_up=(part.width, part.height) == (2 * place.width, 2 * place.height),
        pad=options.pad,
        mean=tuple(values.mean.tolist()),
        scale=tuple(values.scale.tolist()),
    )
    grid = (-(-tensor[0] // BLOCK[0]), -(-tensor[1] // BLOCK[1]), 1)
    return _Plan(parameters, grid, Placement.of(source, tensor, part, place))


def _pixels(pixel_format: str, colour: str) -> tuple[int, bool]:
    """Return how the kernel reads the source, and whether it turns the order of the channels round."""
    if pixel_format == "gray8" or (pixel_format == "nv12" and colour == "gray"):
        return _GRAY, False
    if pixel_format == "nv12":
        return _NV12, colour == "bgr"
    if colour == "gray":
        return _COLOUR_TO_GRAY, pixel_format == "rgb8"
    return _COLOUR, not pixel_format.startswith(colour)


def _axis(part: Rect, place: Rect, source: Size, tensor: Size, index: int) -> _Axis:
    """Return one direction, 0 across and 1 down, its step from tensor to source in lowest terms."""
    part_size, place_size = part[2 + index], place[2 + index]
    divisor = gcd(part_size, place_size)
    return _Axis(
        *(part[index], part_size, place[index], place_size, source[index], tensor[index]),
        *(part_size // divisor, place_size // divisor),
    )


def load_kernel_image(
    driver_cuda_version: int, compute_capability: tuple[int, int], folder: Path = IMAGE_FOLDER
) -> bytes:
    """Return the compiled kernel for a driver, whose version is as `cuDriverGetVersion` says: 12060 is 12.6.

    A driver for CUDA 12 takes neither CUDA 13's machine code nor its PTX; JetPack 6 has such a driver.

    Raises:
        DeviceError: there is no kernel for such a driver and device.
        ConfigError: this edgert was built without the kernel, or with that of another version.
    """
    file = folder / _image_name(driver_cuda_version, compute_capability)
    try:
        image = file.read_bytes()
    except FileNotFoundError as error:
        raise ConfigError(
            f"This edgert was built without {file.name}. Run `make kernels` on the build machine "
            "and build the wheel again."
        ) from error
    if kernel_stamp(folder) not in image:
        raise ConfigError(
            f"{file.name} was compiled from other sources. Run `make kernels` on the build machine "
            "and build the wheel again."
        )
    return image


def kernel_stamp(folder: Path = IMAGE_FOLDER) -> bytes:
    """Return what an image holds that was compiled from the sources in `folder`."""
    sources = sorted(path for path in folder.iterdir() if path.suffix in (".cu", ".cuh"))
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    return f"edgert-kernels-{digest[:16]}".encode()


def _image_name(driver_cuda_version: int, compute_capability: tuple[int, int]) -> str:
    version = f"{driver_cuda_version // 1000}.{driver_cuda_version % 1000 // 10}"
    compute = "{}.{}".format(*compute_capability)
    if compute_capability < OLDEST_COMPUTE:
        oldest = "{}.{}".format(*OLDEST_COMPUTE)
        raise DeviceError(
            f"The device has compute {compute}; the preparation kernel needs {oldest} or later."
        )
    if driver_cuda_version >= 13000:
        return CUDA13_IMAGE
    if driver_cuda_version >= 12000 and compute_capability == OLDEST_COMPUTE:
        return CUDA12_IMAGE
    raise DeviceError(
        f"The driver is for CUDA {version}; on compute {compute} the preparation kernel needs a driver "
        "for CUDA 13 or later."
    )

"""Runs the kernel over memory that is exactly as large as needed; libasan ends the process if it strays.

python -m tests.unit.prepare.kernel_bounds IMAGE, with LD_PRELOAD=libasan.so; prints how many frames it made.
"""

from __future__ import annotations

import ctypes
import sys
from itertools import product
from pathlib import Path

from edgert.frames.frame import RAW_FORMATS, image_bytes, image_shape
from edgert.prepare.kernels import KernelPreparer
from edgert.prepare.options import PrepareOptions
from tests.fakes.kernel_stream import KernelDriver

SOURCES = ((2, 2), (6, 14), (10, 34), (46, 70), (4, 3000), (700, 2))
TENSORS = ((1, 1), (9, 33), (13, 70))
LEAD_BYTES = 8  # before the picture; libasan can poison no fewer
LIBC = ctypes.CDLL(None)
LIBC.malloc.restype = LIBC.calloc.restype = ctypes.c_void_p
LIBC.free.argtypes = [ctypes.c_void_p]


def main(image: bytes) -> None:
    driver, count = KernelDriver(), 0
    for pixel_format, fit, interpolation, tensor in product(
        RAW_FORMATS, ("letterbox", "stretch", "crop"), ("linear", "area", "nearest"), TENSORS
    ):
        options = PrepareOptions(fit=fit, interpolation=interpolation, keep=0.7)
        preparer = KernelPreparer(options, (3, *tensor), "uint8", driver, image)
        for source in SOURCES:
            prepare(preparer, pixel_format, source, 3 * tensor[0] * tensor[1], driver.open_stream())
            count += 1
    print(count)


def prepare(preparer, pixel_format, source, item_bytes, stream) -> None:
    """Make one frame whose memory begins within 16 bytes and has not a byte to spare."""
    picture = LIBC.calloc(1, LEAD_BYTES + image_bytes(image_shape(pixel_format, *source)))
    item = LIBC.malloc(item_bytes)
    LIBC.__asan_poison_memory_region(ctypes.c_void_p(picture), LEAD_BYTES)
    preparer.place(picture + LEAD_BYTES, pixel_format, *source, item, stream)
    LIBC.__asan_unpoison_memory_region(ctypes.c_void_p(picture), LEAD_BYTES)
    LIBC.free(picture)
    LIBC.free(item)
    stream.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]).read_bytes())

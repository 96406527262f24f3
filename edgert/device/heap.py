"""How the C library's heap gives memory back, which decides what a year of frames leaves behind."""

from __future__ import annotations

import ctypes

_M_MMAP_THRESHOLD = -3  # glibc, malloc.h
LARGE_BYTES = 256 * 1024


def return_large_blocks() -> bool:
    """Let blocks of 256 KiB and more go back to the system when they are freed; False without glibc.

    By default glibc raises this limit to the size of the largest block that was ever freed, up to 32 MiB.
    Frames are that large, so from then on each thread's heap keeps the holes that they leave.
    """
    try:
        return bool(ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES))
    except AttributeError:  # another C library
        return False


def return_free_memory() -> None:
    """Give free blocks back to the system, after large work that is not done again; only glibc does."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)

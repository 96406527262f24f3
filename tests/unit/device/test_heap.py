from __future__ import annotations

import ctypes
import resource
from pathlib import Path

import pytest

from edgert.device import heap


def test_glibc_takes_the_limit():
    assert heap.return_large_blocks()


def test_another_c_library_is_left_as_it_is(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    assert not heap.return_large_blocks()
    heap.return_free_memory()


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="needs glibc")
def test_what_loading_has_freed_goes_back_to_the_system():
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    blocks = [libc.malloc(100_000) for _ in range(500)]
    for block in blocks:
        ctypes.memset(block, 1, 100_000)
    before_bytes = resident_bytes()
    for block in blocks[:-1]:
        libc.free(block)  # the last one keeps the heap from shrinking
    heap.return_free_memory()
    assert before_bytes - resident_bytes() > 40_000_000
    libc.free(blocks[-1])


def resident_bytes():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()

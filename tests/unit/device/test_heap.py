from __future__ import annotations

import ctypes

from edgert.device import heap


def test_glibc_takes_the_limit():
    assert heap.return_large_blocks()


def test_another_c_library_is_left_as_it_is(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    assert not heap.return_large_blocks()

from __future__ import annotations

import gc
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgert.device.host import HostDriver
from edgert.frames.slots import SlotRing
from tests.fakes.source import ScriptClock

HEIGHT, WIDTH = 48, 64


@pytest.fixture(autouse=True)
def no_descriptor_left_open():
    """Fail a test that leaves a file or socket open."""
    before = _open_files()
    yield
    gc.collect()
    after = _open_files()
    assert len(after) <= len(before), f"left open: {set(after) - set(before)}"


@pytest.fixture
def clock():
    return ScriptClock()


@pytest.fixture
def ring():
    """Two slots for pictures up to 1 MiB."""
    ring = SlotRing(2, 2**20, HostDriver().allocate)
    yield ring
    ring.close(timeout_s=0)


@pytest.fixture
def slot(ring):
    """A slot that is being written."""
    slot = ring.acquire_write()
    yield slot
    ring.abandon(slot)


@pytest.fixture
def grey():
    """Return a function that makes a plain picture."""

    def make(level, height=HEIGHT, width=WIDTH):
        return np.full((height, width, 3), level, np.uint8)

    return make


@pytest.fixture
def make_clip(tmp_path, grey):
    """Return a function that writes a clip of plain pictures, brighter by 10 each."""

    def make(count=5, name="clip.avi", rate=25.0):
        path = tmp_path / name
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), rate, (WIDTH, HEIGHT))
        for index in range(count):
            writer.write(grey(10 * index))
        writer.release()
        return path

    return make


def _open_files():
    links = [link for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    return sorted(str(link.readlink()) for link in links)

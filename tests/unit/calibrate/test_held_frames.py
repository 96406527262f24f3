import numpy as np
import pytest

from edgert.calibrate import held_frames as module
from edgert.calibrate.compare.trial import TrialFrame
from edgert.calibrate.held_frames import HeldFrames
from edgert.frames.placement import Placement

WHERE = Placement(1.0, 1.0, 0.0, 0.0, 3, 3, 3, 3)


class Files:
    """Frames by name, of the sizes given, which count how often they are read."""

    def __init__(self, sizes):
        self.sizes = sizes
        self.read = []

    def prepare(self, names):
        for name in names:
            self.read.append(name)
            yield TrialFrame(name, np.zeros(self.sizes[name], np.uint8), WHERE)


def names_of(frames):
    return [frame.name for frame in frames]


def test_small_frames_are_read_once():
    files = Files({"a": 1, "b": 1, "c": 1})
    frames = HeldFrames(files.prepare, list("abc"))
    assert [names_of(frames), names_of(frames)] == [list("abc")] * 2
    assert files.read == list("abc")


@pytest.mark.parametrize("sizes", [{"a": 9, "b": 9, "c": 9}, {"a": 1, "b": 9, "c": 1}])
def test_large_ones_are_read_again_and_stay_in_order(monkeypatch, sizes):
    monkeypatch.setattr(module, "HELD_BYTES", 12)
    files = Files(sizes)
    frames = HeldFrames(files.prepare, list("abc"))
    assert [names_of(frames), names_of(frames)] == [list("abc")] * 2
    assert files.read.count("b") == files.read.count("c") == 2


def test_a_pass_that_was_broken_off_is_gone_on_with():
    files = Files({"a": 1, "b": 1, "c": 1})
    frames = HeldFrames(files.prepare, list("abc"))
    assert next(iter(frames)).name == "a"
    assert names_of(frames) == list("abc")
    assert files.read == list("abc")

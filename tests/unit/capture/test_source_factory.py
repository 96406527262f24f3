from __future__ import annotations

import msgspec
import pytest

from edgert.capture import factory
from edgert.capture.camera import CameraSource
from edgert.capture.clip import ClipSource
from edgert.capture.factory import open_source
from edgert.capture.gstreamer import GStreamerSource
from edgert.capture.options import SourceOptions
from edgert.capture.replay import ReplaySource
from edgert.capture.zeromq import ZeroMqSource
from edgert.stats import CopyCounts


@pytest.fixture
def make(tmp_path):
    def make_source(uri, **options):
        chosen = SourceOptions(uri=uri, **options)
        return open_source("cam", chosen, encode=msgspec.json.encode, folder=tmp_path, copies=CopyCounts())

    return make_source


@pytest.mark.parametrize(
    ("uri", "kind"),
    [
        ("v4l2:/dev/video0", CameraSource),
        ("rtsp://cam/x", CameraSource),
        ("file:a.avi", ClipSource),
        ("replay:a.avi", ReplaySource),
        ("replay:noise", ReplaySource),
        ("pull+bind:tcp://127.0.0.1:*", ZeroMqSource),
    ],
)
def test_uri_chooses_the_source(make, uri, kind):
    assert type(make(uri)) is kind


@pytest.mark.parametrize(("is_built_in", "kind"), [(True, CameraSource), (False, GStreamerSource)])
@pytest.mark.parametrize("uri", ["csi:0", "gst:videotestsrc"])
def test_gstreamer_is_opencvs_where_it_has_it(make, monkeypatch, uri, is_built_in, kind):
    monkeypatch.setattr(factory, "has_gstreamer", lambda: is_built_in)
    assert type(make(uri)) is kind


def test_relative_path_begins_at_the_folder(make, make_clip, slot):
    make_clip(2, name="here.avi")
    for uri in ("file:here.avi", "replay:here.avi"):
        source = make(uri)
        source.open()
        assert source.read(slot, 1.0).width == 64
        source.close()


def test_replay_options_reach_the_replay(make, slot):
    once, looped = make("replay:noise?width=8&height=6&frames=1"), make("replay:noise?frames=1", loop=True)
    for source in (once, looped):
        source.open()
    assert once.read(slot, 0.0).height == 6
    assert [looped.read(None, 0.0).height for _ in range(3)] == [480] * 3

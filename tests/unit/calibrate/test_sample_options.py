from __future__ import annotations

from pathlib import Path

import pytest

from edgert.calibrate.sample.options import SampleOptions, TapLinkOptions
from edgert.config import Document
from edgert.errors import ConfigError

RECIPE = Path("recipes/detector.toml")


def load(table):
    return Document(RECIPE, {"sample": table}).section("sample", SampleOptions)


def test_a_uri_is_enough():
    options = load({"source": "file:street.mp4"})
    assert (options.count, options.selection_count, options.held_out_count) == (500, 50, 100)
    assert (options.choice, options.every, options.seed, options.wanted) == ("reservoir", 1, 0, 650)
    options.check()


def test_a_table_is_read_as_in_a_pipeline_file():
    options = load({"source": {"uri": "v4l2:/dev/video0", "width": 640, "height": 480}})
    assert options.source_options().width == 640


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ({}, "expected one of source, pictures, recording and tap, found none of them"),
        ({"source": "csi:0", "recording": "x"}, "found source and recording"),
        ({"pictures": [], "choice": "farthest"}, "found none of them"),
        ({"source": "csi:0", "count": 0}, r"sample.count = 0"),
        ({"source": "csi:0", "choice": "best"}, r"sample.choice = 'best': expected one of 'reservoir', 'fa"),
        ({"source": "csi:0", "counts": 5}, "unknown key 'counts'; did you mean 'count'"),
        ({"source": "csi:0", "every": 0}, "sample.every = 0"),
        ({"source": "csi:0", "seed": -1}, "sample.seed = -1"),
        ({"tap": {"endpoints": ""}}, "sample.tap: unknown key 'endpoints'"),
    ],
)
def test_what_is_wrong_is_named(table, reason):
    with pytest.raises(ConfigError, match=f"^{RECIPE}: .*{reason}"):
        load(table)


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ({"source": "nothing:0"}, "expected the scheme to be one of"),
        ({"source": {"uri": "csi:0", "loop": True}}, "loop = True: means nothing for csi:0"),
        ({"source": "router+bind:ipc:///run/x"}, "its senders wait for results"),
        ({"source": "pull+bind:tcp://0.0.0.0:9"}, "trusted_network"),
        ({"source": "file:a.mp4", "frames_per_s": 2.0}, "frames_per_s = 2: only for live sources"),
        ({"pictures": ["a"], "duration_s": 2.0}, "duration_s = 2: only for live sources"),
        ({"tap": {"endpoint": "tcp://127.0.0.1:1"}}, "endpoint = 'tcp://127.0.0.1:1': expected the tap's"),
        ({"tap": {"endpoint": "pub+bind:udp://x"}}, "expected an address"),
        ({"tap": {"endpoint": "pub+connect:tcp://10.0.0.1:5"}}, "let the tap bind"),
    ],
)
def test_what_does_not_go_together_is_refused(table, reason):
    with pytest.raises(ConfigError, match=reason):
        load(table).check()


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        ("pub+bind:tcp://127.0.0.1:5602", ("sub", False, "tcp://127.0.0.1:5602")),
        ("pub+connect:ipc:///run/tap", ("sub", True, "ipc:///run/tap")),
    ],
)
def test_a_tap_is_met_from_the_other_side(endpoint, expected):
    options = TapLinkOptions(endpoint=endpoint)
    options.check()
    spec = options.spec()
    assert (spec.socket, spec.binds, spec.target) == expected


@pytest.mark.parametrize("table", ["rtsp://user:secret@cam/1", {"uri": "rtsp://user:secret@cam/1"}])
def test_passwords_are_neither_shown_nor_kept(table):
    options = load({"source": table})
    for shown in (repr(options), repr(options.record())):
        assert "secret" not in shown
        assert "user:***@cam" in shown
    assert options.source_options().uri == "rtsp://user:secret@cam/1"


@pytest.mark.parametrize(
    ("source", "fps"),
    [("file:a.mp4", 0.0), ({"uri": "file:a.mp4", "fps": 5.0}, 5.0), ("v4l2:/dev/video0", None)],
)
def test_a_clip_is_read_as_fast_as_possible_unless_said_otherwise(source, fps):
    assert load({"source": source}).source_options().fps == fps


@pytest.mark.parametrize(
    ("table", "is_endless", "expected"),
    [({}, False, 0), ({}, True, 2600), ({"max_frames": 7}, True, 7), ({"duration_s": 5.0}, True, 0)],
)
def test_what_has_no_end_gets_one(table, is_endless, expected):
    assert load({"source": "csi:0", **table}).frames_limit(is_endless=is_endless) == expected

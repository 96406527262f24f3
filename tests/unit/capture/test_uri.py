from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgert.capture.uri import SourceSpec, masked, parse_uri
from edgert.errors import ConfigError


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("v4l2:/dev/video0", SourceSpec("v4l2", "/dev/video0")),
        ("csi:0", SourceSpec("csi", "0")),
        ("rtsp://cam/front", SourceSpec("rtsp", "rtsp://cam/front")),
        ("rtsps://cam:322/front", SourceSpec("rtsp", "rtsps://cam:322/front")),
        ("gst:videotestsrc ! appsink", SourceSpec("gst", "videotestsrc ! appsink")),
        ("file:clips/street 1.mp4", SourceSpec("file", "clips/street 1.mp4")),
        ("router+bind:tcp://127.0.0.1:5601", SourceSpec("zeromq", "tcp://127.0.0.1:5601", "router", True)),
        ("sub+connect:ipc:///run/cam", SourceSpec("zeromq", "ipc:///run/cam", "sub", False)),
        ("pull+bind:tcp://[::1]:5601", SourceSpec("zeromq", "tcp://[::1]:5601", "pull", True)),
        ("rep+bind:inproc://x", SourceSpec("zeromq", "inproc://x", "rep", True)),
        ("dealer+connect:tcp://*:*", SourceSpec("zeromq", "tcp://*:*", "dealer", False)),
        (
            "frigate+bind:ipc:///tmp/cache/zmq_detector",
            SourceSpec("zeromq", "ipc:///tmp/cache/zmq_detector", "router", True, dialect="frigate"),
        ),
    ],
)
def test_uri_is_understood(uri, expected):
    assert parse_uri(uri) == expected


def test_replay_settings_are_filled_in():
    assert parse_uri("replay:noise?width=32&total=7").settings == {
        "width": 32,
        "height": 480,
        "frames": 10,
        "seed": 0,
        "total": 7,
    }
    clip = parse_uri("replay:a/b.mp4?frames=3")
    assert (clip.target, clip.settings["frames"]) == ("a/b.mp4", 3)
    assert parse_uri("replay:a/b.mp4").settings["frames"] == 0


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("", "the scheme to be one of v4l2:"),
        ("webcam", "the scheme to be one of"),
        ("http://cam/x", "the scheme to be one of"),
        ("v4l2:video0", "the absolute path of a device"),
        ("csi:front", "the number of a sensor"),
        ("rtsp:cam", "a host"),
        ("gst: ", "a pipeline"),
        ("file:", "a path"),
        ("file://host/clip.mp4", "a path"),
        ("replay:", "a path or `noise`"),
        ("replay:noise?depth=3", "the settings width, height"),
        ("replay:noise?width=1", "width to be a whole number from 2 to 16384"),
        ("replay:noise?width=-4", "width to be a whole number"),
        ("replay:noise?width=99999999999999999999", "width to be a whole number"),
        ("pub+bind:tcp://127.0.0.1:1", "the socket type to be one of router"),
        ("sub+listen:tcp://127.0.0.1:1", "sub+bind: or sub+connect:"),
        ("frigate+connect:tcp://127.0.0.1:1", "frigate+bind: (it is Frigate that connects)"),
        ("frigate+listen:tcp://127.0.0.1:1", "frigate+bind:"),
        ("frigate+bind:127.0.0.1:1", "an address tcp://HOST:PORT"),
        ("sub+bind:127.0.0.1:1", "an address tcp://HOST:PORT"),
        ("sub+bind:tcp://127.0.0.1", "an address tcp://HOST:PORT"),
        ("sub+bind:pgm://127.0.0.1:1", "an address"),
    ],
)
def test_wrong_uri_is_refused_with_what_was_expected(uri, expected):
    with pytest.raises(ConfigError) as refusal:
        parse_uri(uri)
    assert str(refusal.value).startswith(f"uri {uri!r}: expected {expected}")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rtsp://user:secret@10.0.0.7/front", "rtsp://user:***@10.0.0.7/front"),
        ("rtsp://user:se:c@r/et@10.0.0.7/front", "rtsp://user:***@10.0.0.7/front"),
        ("rtsp://10.0.0.7:554/front", "rtsp://10.0.0.7:554/front"),
        ("rtsp://h/user=admin&password=secret&channel=1", "rtsp://h/user=admin&password=***&channel=1"),
        (
            'rtspsrc location=rtsp://h user-id=u user-pw="a secret" !',
            "rtspsrc location=rtsp://h user-id=u user-pw=*** !",
        ),
        ("gst:rtspsrc location=rtsp://u:secret@h ! appsink", "gst:rtspsrc location=rtsp://u:***@h ! appsink"),
    ],
)
def test_passwords_are_masked(text, expected):
    assert masked(text) == expected


@given(st.text(st.characters(exclude_categories=["Z", "C"]), min_size=1))
def test_no_password_survives_masking(password):
    secret = f"<{password}>"
    assert secret not in masked(f"rtsp://user:{secret}@camera/front")


def test_password_is_in_no_message_and_no_repr():
    spec = parse_uri("rtsp://user:secret@cam/front")
    assert "secret" not in repr(spec)
    assert str(spec) == "rtsp://user:***@cam/front"
    with pytest.raises(ConfigError) as refusal:
        parse_uri("rtps://user:secret@cam/front")
    assert "secret" not in str(refusal.value)


@given(st.text())
def test_any_text_is_parsed_or_refused(text):
    with contextlib.suppress(ConfigError):
        assert isinstance(parse_uri(text), SourceSpec)


def test_frigates_endpoint_is_shown_as_it_was_written():
    uri = "frigate+bind:tcp://0.0.0.0:5603"
    spec = parse_uri(uri)
    assert str(spec) == uri
    assert (spec.answers, spec.is_live, spec.is_exposed) == (True, False, True)


def test_kinds_know_how_they_behave():
    camera, sub, router = (parse_uri(u) for u in ("csi:0", "sub+bind:inproc://a", "router+bind:inproc://a"))
    assert (camera.is_camera, camera.is_live, camera.answers) == (True, True, False)
    assert (sub.is_camera, sub.is_live, sub.answers) == (False, True, False)
    assert (router.is_camera, router.is_live, router.answers) == (False, False, True)

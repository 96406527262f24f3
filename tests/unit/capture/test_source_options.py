from __future__ import annotations

import pytest

from edgert.capture.options import SourceOptions
from edgert.config import Document
from edgert.errors import ConfigError


@pytest.mark.parametrize(
    ("uri", "policy"),
    [
        ("v4l2:/dev/video0", "latest"),
        ("rtsp://cam/x", "latest"),
        ("sub+connect:tcp://h:1", "latest"),
        ("file:a.mp4", "every"),
        ("replay:noise", "every"),
        ("router+bind:tcp://h:1", "every"),
        ("rep+bind:tcp://h:1", "every"),
        ("pull+bind:tcp://h:1", "every"),
        ("dealer+connect:tcp://h:1", "every"),
    ],
)
def test_policy_fits_the_uri(uri, policy):
    assert SourceOptions(uri=uri).chosen_policy() == policy


def test_policy_can_be_said():
    assert SourceOptions(uri="file:a.mp4", policy="latest").chosen_policy() == "latest"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"uri": "sub+bind:tcp://h:1", "policy": "every"},
            "policy = 'every' on sub+bind:tcp://h:1: a SUB socket",
        ),
        (
            {"uri": "csi:0", "retry_min_s": 9, "retry_max_s": 3},
            "retry_min_s = 9: expected at most retry_max_s = 3",
        ),
        ({"uri": "csi:0", "loop": True}, "loop = True: means nothing for csi:0; only for file, replay"),
        ({"uri": "pull+bind:tcp://h:1", "topic": "a"}, "topic = 'a': means nothing for pull+bind:tcp://h:1"),
        ({"uri": "rtsp://u:secret@h/x", "width": 640}, "width = 640: means nothing for rtsp://u:***@h/x"),
        ({"uri": "nonsense"}, "uri 'nonsense': expected the scheme"),
        ({"uri": "router+bind:inproc://a"}, "nobody can reach inproc:// from outside; use ipc:// or tcp://"),
        (
            {"uri": "frigate+bind:ipc:///run/f", "models": ["a", "b"]},
            "models = ['a', 'b']: Frigate takes the boxes of one model; name one",
        ),
        ({"uri": "router+bind:tcp://h:1", "format": "bgr8"}, "format = 'bgr8': means nothing for router"),
        ({"uri": "frigate+bind:tcp://h:1", "models": ["a"]}, "uri 'frigate+bind:tcp://h:1': whoever reaches"),
        ({"uri": "csi:0", "trusted_network": True}, "trusted_network = True: means nothing for csi:0"),
    ],
)
def test_contradictions_are_refused(options, message):
    with pytest.raises(ConfigError) as refusal:
        SourceOptions(**options).check()
    assert message in str(refusal.value)


@pytest.mark.parametrize(
    "options",
    [
        {"uri": "sub+connect:tcp://h:1", "topic": "a"},
        {"uri": "file:a.mp4", "fps": 0, "loop": True},
        {"uri": "frigate+bind:ipc:///run/f", "models": ["a"], "format": "bgr8"},
        {"uri": "v4l2:/dev/video0", "fps": 30, "width": 640, "height": 480, "fourcc": "MJPG"},
    ],
)
def test_sound_options_pass(options):
    SourceOptions(**options).check()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("slots = 1", "slots = 1: expected `int` >= 2"),
        ("fps = -1", "fps = -1: expected `float` >= 0"),
        ("max_frame_mb = 0", "max_frame_mb = 0: expected `float` > 0"),
        ('policy = "newest"', "policy = 'newest'"),
        ('fourcc = "MJPEG"', "fourcc = 'MJPEG'"),
        ('ulr = "x"', "unknown key 'ulr'"),
    ],
)
def test_wrong_value_names_its_key(tmp_path, line, message):
    path = tmp_path / "p.toml"
    path.write_text(f'[source]\nuri = "csi:0"\n{line}\n')
    with pytest.raises(ConfigError) as refusal:
        Document.load(path).section("source", SourceOptions)
    assert message in str(refusal.value)


def test_repr_masks_the_password():
    options = SourceOptions(uri="rtsp://user:secret@cam/x", models=["a"])
    assert "secret" not in repr(options)
    assert "models=['a']" in repr(options)


def test_bound_is_given_in_mebibytes():
    assert SourceOptions(uri="csi:0", max_frame_mb=1.5).max_frame_bytes == 3 * 2**19


@pytest.mark.parametrize(
    "host",
    [
        "*",
        "0.0.0.0",
        "[::]",
        "[0:0:0:0:0:0:0:0]",
        "192.168.1.4",
        "[fe80::1]",
        "eth0",
        "board",
        "127.1",
        "10.0.0.127",
    ],
)
@pytest.mark.parametrize("socket", ["router", "rep", "pull", "sub", "dealer"])
def test_binding_beyond_loopback_has_to_be_said(socket, host):
    options = SourceOptions(uri=f"{socket}+bind:tcp://{host}:5601")
    with pytest.raises(ConfigError, match=r"bind to tcp://127.0.0.1:PORT or .* set trusted_network = true"):
        options.check()
    SourceOptions(uri=options.uri, trusted_network=True).check()


@pytest.mark.parametrize(
    "endpoint",
    [
        "bind:tcp://127.0.0.1:5601",
        "bind:tcp://127.8.9.1:*",
        "bind:tcp://[::1]:5601",
        "bind:tcp://localhost:5601",
        "bind:tcp://lo:5601",
        "bind:ipc:///run/cam",
        "connect:tcp://192.168.1.4:5601",
    ],
)
def test_what_no_stranger_can_connect_to_needs_no_word(endpoint):
    SourceOptions(uri=f"router+{endpoint}").check()

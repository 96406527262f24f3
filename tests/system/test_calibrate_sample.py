"""Sampling from what is really there: a running service's tap, RTSP, sockets, clips; and real Ctrl-C."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import threading
import time

import cv2
import msgspec
import numpy as np
import pytest
import zmq

from edgert.calibrate.sample.options import SampleOptions, TapLinkOptions
from edgert.calibrate.sample.sample_set import load_sample_set
from edgert.calibrate.sample.sampler import open_frames, sample
from edgert.calibrate.sample.tap_frames import TapFrames
from edgert.capture.picture_file import read_frame
from edgert.capture.replay import make_noise
from edgert.client import Client
from edgert.errors import ConfigError, SourceError
from edgert.frames.result import Detections, Result
from edgert.publish.options import TapOptions
from edgert.publish.payload import ResultEncoder
from edgert.publish.tap import ZmqTap
from tests.fakes.frames import FrameMaker
from tests.fakes.process import Service
from tests.fakes.store import Site
from tests.requirements_of import need_gstreamer
from tests.system.test_rtsp import PACKAGES, RtspServer

pytestmark = pytest.mark.system

FEW = {"count": 8, "selection_count": 2, "held_out_count": 3}
WAIT_S = 30.0


def sizes(samples):
    return len(samples.calibration), len(samples.selection), len(samples.held_out)


def files_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def clip(tmp_path):
    """A clip of 40 frames, each brighter than the one before."""
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 25.0, (64, 48))
    for number in range(40):
        writer.write(np.full((48, 64, 3), 6 * number, np.uint8))
    writer.release()
    return path


@pytest.mark.parametrize("choice", ["reservoir", "farthest"])
def test_a_clip(tmp_path, clip, choice):
    began = time.monotonic()
    options = SampleOptions(source=f"file:{clip.name}", choice=choice, apart_s=0.04, **FEW)
    samples = sample(options, tmp_path, tmp_path / "work")
    assert time.monotonic() - began < 1.0  # 1.6 s in real time
    assert (sizes(samples), samples.offered) == ((8, 2, 3), 40)
    for frame in samples.frames():
        number = int(frame.source.removeprefix(f"file:{clip.name}#"))
        level = float(read_frame(tmp_path / "work" / frame.file)[0].mean())
        assert level == pytest.approx(6 * number, abs=2)


# A running service


def test_the_tap_of_a_running_service_which_keeps_its_camera(tmp_path):
    """Two models see each frame, so that the tap sends it twice."""
    site = Site(tmp_path)
    site.add_noop("one")
    site.add_noop("two")
    source = '[sources.s]\nuri = "replay:noise?width=32&height=24&frames=20&seed=5"\nloop = true\nfps = 100\n'
    endpoint = f"pub+bind:ipc://{site.folder}/tap"
    sinks = f'[sinks.tap]\ntype = "tap"\nendpoint = "{endpoint}"\nframes_per_s = 0\n'
    file = site.write(f'{source}models = ["one", "two"]\n{sinks}')
    options = SampleOptions(tap=TapLinkOptions(endpoint=endpoint, source="s"), max_frames=19, **FEW)
    with Service(file) as service:
        samples = sample(options, tmp_path, tmp_path / "work")
        service.signal(signal.SIGTERM)
        assert service.wait() == 0
    assert (sizes(samples), samples.offered) == ((8, 2, 3), 19)
    numbers = [int(frame.source.removeprefix("tap:s#")) for frame in samples.frames()]
    assert len({number % 20 for number in numbers}) == 13
    pictures = make_noise(32, 24, 20, 5)
    for frame, number in zip(samples.frames(), numbers, strict=True):
        np.testing.assert_array_equal(read_frame(tmp_path / "work" / frame.file)[0], pictures[number % 20])
        assert frame.captured_utc_ns > 1_600_000_000 * 10**9


# A tap


@pytest.fixture
def tap(tmp_path):
    """Return a function that opens a real tap that publishes `make(seq)` for ever, one every 10 ms."""
    stopping, threads, opened = threading.Event(), [], []

    def publish(tap, makers):
        for seq in range(100_000):
            for maker in makers:
                frame = maker.make(claims=1, value=seq % 256)
                output = Detections(np.zeros((0, 4), "f4"), np.zeros(0, "f4"), np.zeros(0, int), ())
                result = Result(maker.source, seq, "m", 1, 77, 0, frame.width, frame.height, output)
                tap.offer(frame, result)
                frame.slot.release()
            if stopping.wait(0.01):
                return

    def start(*makers, endpoint="pub+bind:ipc://{}/tap"):
        endpoint = endpoint.format(tmp_path)
        tap = ZmqTap("tap", TapOptions(endpoint=endpoint), ResultEncoder("n", "b"))
        tap.open()
        opened.append((tap, makers))
        threads.append(threading.Thread(target=publish, args=(tap, makers)))
        threads[-1].start()
        return endpoint

    yield start
    stopping.set()
    for thread in threads:
        thread.join()
    for tap, makers in opened:
        tap.close(5.0)
        for maker in makers:
            maker.close()


def tapped(endpoint, **options):
    link = {name: options.pop(name) for name in ("source", "max_frame_mb") if name in options}
    chosen = SampleOptions(tap=TapLinkOptions(endpoint=endpoint, **link), **{**FEW, **options})
    chosen.check()
    return TapFrames(chosen.tap, chosen)


@pytest.mark.parametrize("endpoint", ["pub+bind:ipc://{}/tap", "pub+connect:ipc://{}/tap"])
@pytest.mark.parametrize("pixel_format", ["bgr8", "nv12", "gray8"])
def test_frames_of_a_tap(tap, endpoint, pixel_format):
    endpoint = tap(FrameMaker("porch", pixel_format=pixel_format), endpoint=endpoint)
    frames = tapped(endpoint, max_frames=5)
    found = list(frames.read())
    assert len(found) == 5
    for candidate in found:
        name, _, seq = candidate.source.partition("#")
        assert (name, candidate.format, candidate.captured_utc_ns) == ("tap:porch", pixel_format, 77)
        assert set(candidate.image.flat) == {int(seq) % 256}
    assert frames.warnings() == []


def test_only_the_source_that_is_asked_for(tap):
    endpoint = tap(FrameMaker("porch"), FrameMaker("porch2"), FrameMaker("door"))
    sources = {
        each.source.partition("#")[0] for each in tapped(endpoint, source="porch", max_frames=8).read()
    }
    assert sources == {"tap:porch"}
    sources = {each.source.partition("#")[0] for each in tapped(endpoint, max_frames=12).read()}
    assert sources == {"tap:porch", "tap:porch2", "tap:door"}


def test_a_tap_is_thinned_and_ended_by_time(tap):
    began = time.monotonic()
    frames = list(tapped(tap(FrameMaker()), frames_per_s=10.0, duration_s=0.65).read())
    assert 2 <= len(frames) <= 7
    assert time.monotonic() - began < WAIT_S


def test_no_publisher_is_an_error_that_says_so(tmp_path):
    endpoint = f"pub+bind:ipc://{tmp_path}/nobody"
    with pytest.raises(SourceError) as caught:
        list(tapped(endpoint, patience_s=0.3).read())
    assert f"No frame came from the tap at {endpoint} within 0.3 s. Does `edgert run` run" in str(
        caught.value
    )


def test_a_source_that_the_service_has_not_is_named(tap):
    endpoint = tap(FrameMaker("porch"))
    with pytest.raises(SourceError, match="No frame of source 'attic' came from the tap"):
        list(tapped(endpoint, source="attic", patience_s=0.5).read())


def test_a_service_that_ends_leaves_what_was_taken(tap, tmp_path):
    """The publisher's last frames have to do; nothing comes after them."""
    endpoint = f"pub+bind:ipc://{tmp_path}/tap"
    with zmq.Context() as context, context.socket(zmq.XPUB) as publisher:
        publisher.linger = 0
        publisher.bind(endpoint.removeprefix("pub+bind:"))
        sender = threading.Thread(target=send_some, args=(publisher, good_messages(6)))
        sender.start()
        options = SampleOptions(tap=TapLinkOptions(endpoint=endpoint), patience_s=0.5, **FEW)
        samples = sample(options, tmp_path, tmp_path / "work")
        sender.join()
    assert sizes(samples) == (4, 1, 1)
    assert samples.warnings[0].startswith("The source broke after 6 frames, which have to do: No frame came")


def header(**fields):
    values = {
        "v": 1,
        "source": "s",
        "seq": 0,
        "captured_utc_ns": 5,
        "format": "gray8",
        "height": 2,
        "width": 3,
    }
    return msgspec.msgpack.encode({**values, "model": "m", "result": "{}", **fields})


def good_messages(count, first=0):
    return [[b"s", header(seq=first + n), bytes([n] * 6)] for n in range(count)]


def send_some(publisher, messages):
    """Send once somebody has subscribed."""
    assert publisher.poll(int(WAIT_S * 1000))
    assert publisher.recv() == b"\x01"
    for message in messages:
        publisher.send_multipart(message)
        time.sleep(0.005)  # the subscriber holds few


def test_what_is_no_frame_is_refused_and_counted(tmp_path):
    endpoint = f"pub+bind:ipc://{tmp_path}/tap"
    bad = [
        [b"s"],
        [b"s", b"not msgpack", b"123456"],
        [b"s", header(v=2), b"123456"],
        [b"s", header(format="jpeg"), b"123456"],
        [b"s", header(height=0), b""],
        [b"s", header(height=-2, width=-3), b"123456"],
        [b"s", header(height=2**40), b"123456"],
        [b"s", header(), b"12345"],
        [b"s", header(), b"123456", b"more"],
    ]
    with zmq.Context() as context, context.socket(zmq.XPUB) as publisher:
        publisher.linger = 0
        publisher.bind(endpoint.removeprefix("pub+bind:"))
        sender = threading.Thread(target=send_some, args=(publisher, [*bad, *good_messages(3, 10)]))
        sender.start()
        frames = tapped(endpoint, max_frames=3)
        found = list(frames.read())
        sender.join()
    assert [each.source for each in found] == ["tap:s#10", "tap:s#11", "tap:s#12"]
    assert [each.image.tolist()[0] for each in found] == [[n] * 3 for n in range(3)]
    [warning] = frames.warnings()
    assert f"{len(bad)} messages were refused, the first: A message has 1 parts" in warning


def test_a_frame_over_the_bound_is_never_received(tap):
    endpoint = tap(FrameMaker("porch", width=640, height=480))
    with pytest.raises(SourceError, match=r"below max_frame_mb = 0\.5\?"):
        list(tapped(endpoint, max_frame_mb=0.5, patience_s=0.5).read())


def test_an_endpoint_that_cannot_be_bound_is_an_error(tmp_path):
    with pytest.raises(
        ConfigError, match=r"\[sample.tap\] endpoint = 'pub\+connect:ipc:///no/such/folder/x'"
    ):
        list(tapped("pub+connect:ipc:///no/such/folder/x").read())


# Cameras and senders


@pytest.fixture
def camera():
    server = RtspServer(
        need_gstreamer("x264enc", "rtph264pay", packages=PACKAGES, typelibs=("Gst-1.0", "GstRtspServer-1.0"))
    )
    yield server
    server.stop()


def test_an_rtsp_camera(camera, tmp_path):
    camera.start()
    options = SampleOptions(source=camera.uri, every=2, max_frames=20, **FEW)
    samples = sample(options, tmp_path, tmp_path / "work")
    assert sizes(samples) == (8, 2, 3)
    assert all("user:***@127.0.0.1" in frame.source for frame in samples.frames())
    assert "secret" not in (tmp_path / "work" / "samples.json").read_text()
    numbers = [int(frame.source.rpartition("#")[2]) for frame in samples.frames()]
    assert all(number % 2 == 0 for number in numbers)
    assert read_frame(tmp_path / "work" / samples.calibration[0].file)[0].shape == (240, 320, 3)


def test_an_rtsp_camera_that_dies_halfway(camera, tmp_path):
    camera.start()
    told = []

    def on_progress(done, _wanted):
        told.append(done)
        if done == 12:
            camera.stop()

    options = SampleOptions(source=camera.uri, patience_s=1.0, max_frames=500, **FEW)
    samples = sample(options, tmp_path, tmp_path / "work", on_progress=on_progress)
    assert 12 <= samples.offered < 500
    assert samples.warnings[0].startswith(
        f"The source broke after {samples.offered} frames, which have to do"
    )
    assert "secret" not in samples.warnings[0]
    load_sample_set(tmp_path / "work" / "samples.json")


def test_an_rtsp_camera_that_is_absent(camera, tmp_path):
    options = SampleOptions(source=camera.uri, **FEW)
    with pytest.raises(SourceError, match="cannot be opened") as caught:
        sample(options, tmp_path, tmp_path / "work")
    assert "secret" not in str(caught.value)
    assert not (tmp_path / "work").exists()


def test_pictures_that_are_sent(tmp_path):
    uri = f"pull+bind:ipc://{tmp_path}/in"
    frames = open_frames(SampleOptions(source=uri, max_frames=3, **FEW), tmp_path)
    pictures = make_noise(16, 8, 3, 0)

    def send():
        with Client(uri) as client:
            for picture in pictures:
                client.send(picture, timeout_s=WAIT_S)

    sender = threading.Thread(target=send)
    sender.start()
    found = [candidate.image.copy() for candidate in frames.read()]
    sender.join()
    np.testing.assert_array_equal(found, pictures)


# Ctrl-C

CHILD = """
import sys
from pathlib import Path
from edgert.calibrate.sample.options import SampleOptions
from edgert.calibrate.sample.sampler import sample
from edgert.capture.options import SourceOptions
options = SampleOptions(source=SourceOptions(uri=sys.argv[1], fps=float(sys.argv[3])), count=20)
work = Path(sys.argv[2])
sample(options, work, work, on_progress=lambda done, wanted: print(done, wanted, flush=True))
"""


@contextlib.contextmanager
def child(work, fps):
    uri = "replay:noise?width=64&height=64&frames=10&total=400"
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, uri, str(work), str(fps)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


@pytest.mark.parametrize(("number", "is_clean"), [(signal.SIGINT, True), (signal.SIGKILL, False)])
def test_a_sampling_that_is_stopped_counts_for_nothing_and_begins_anew(tmp_path, number, is_clean):
    work = tmp_path / "work"
    with child(work, fps=100) as process:
        while process.stdout.readline().split()[:1] != ["15"]:
            assert process.poll() is None
        assert not (work / "samples.json").exists()
        process.send_signal(number)
        assert process.wait(WAIT_S) != 0
    assert (not work.exists() or files_in(work) == []) is is_clean
    with child(work, fps=0) as process:
        process.communicate(timeout=WAIT_S)
        assert process.returncode == 0
    samples = load_sample_set(work / "samples.json")
    listed = {frame.file for frame in samples.frames()}
    assert files_in(work) == sorted({*listed, "frames/.edgert", "samples.json"})
    assert json.loads((work / "samples.json").read_text())["offered"] == 400

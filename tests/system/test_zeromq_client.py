"""edgert.client against real sources."""

from __future__ import annotations

import ast
import sys
import threading
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest
import zmq

from edgert import client as client_module
from edgert.capture.capture import Capture
from edgert.capture.options import SourceOptions
from edgert.capture.zeromq import ZeroMqSource
from edgert.client import Client, RequestError
from edgert.device.host import HostDriver
from edgert.errors import ModelError
from edgert.frames.result import Classes, Result
from edgert.frames.slots import SlotRing

PICTURE = np.random.default_rng(5).integers(0, 256, (8, 10, 3), np.uint8)


class Service:
    """A capture whose frames are answered with what they held."""

    def __init__(self, uri):
        options = SourceOptions(uri=uri)
        self.frames = []
        self.received = threading.Semaphore(0)
        self.source = ZeroMqSource("door", options, encode=self.encode)
        self.ring = SlotRing(3, 2**20, HostDriver().allocate)
        self.bound = threading.Event()
        self.capture = Capture(
            "door", self.source, self.ring, options, self.deliver, on_state=lambda *_: self.bound.set()
        )

    def start(self):
        self.capture.start()
        return self

    @property
    def address(self):
        assert self.bound.wait(10)
        return self.source.address

    def deliver(self, frame):
        if frame.model == "unknown":
            raise ModelError("no such model")
        self.frames.append((frame.format, frame.image().copy()))
        self.ring.commit(frame.slot, 0)
        self.received.release()
        if frame.reply and frame.model != "slow":
            output = Classes(np.zeros(0), np.zeros(0, int), ())
            frame.reply.answer(Result("door", frame.seq, frame.model or "cats", 1, 0, 0, 0, 0, output))

    @staticmethod
    def encode(result):
        return msgspec.json.encode({"seq": result.seq, "model": result.model})

    def stop(self):
        self.capture.stop()
        self.ring.close()


@pytest.fixture
def serve():
    services = []

    def make(uri):
        services.append(Service(uri).start())
        return services[-1]

    yield make
    for service in services:
        service.stop()


@pytest.mark.parametrize("kind", ["router", "rep"])
def test_picture_is_answered_with_its_result(serve, kind):
    service = serve(f"{kind}+bind:tcp://127.0.0.1:*")
    with Client(service.address) as client:
        assert client.infer(PICTURE) == {"seq": 0, "model": "cats"}
        assert client.infer(PICTURE[:, :, 0], model="dogs") == {"seq": 1, "model": "dogs"}
        assert client.infer(cv2.imencode(".jpg", PICTURE)[1].tobytes())["seq"] == 2
        assert client.infer(cv2.imencode(".png", PICTURE)[1].tobytes())["seq"] == 3
    assert [form for form, _ in service.frames] == ["bgr8", "gray8", "bgr8", "bgr8"]
    assert np.array_equal(service.frames[0][1], PICTURE)
    assert np.array_equal(service.frames[3][1], PICTURE)


def test_picture_need_not_be_contiguous(serve):
    service = serve("router+bind:tcp://127.0.0.1:*")
    with Client(service.address) as client:
        client.infer(PICTURE[::2, ::-1])
    assert np.array_equal(service.frames[0][1], PICTURE[::2, ::-1])


def test_endpoint_is_written_as_in_the_pipeline_file(serve, tmp_path):
    uri = f"router+bind:ipc://{tmp_path}/door"
    serve(uri)
    with Client(uri) as client:
        assert client.infer(PICTURE)["seq"] == 0


def test_service_may_start_after_its_client(serve, tmp_path):
    uri = f"router+bind:ipc://{tmp_path}/door"
    with Client(uri) as client:
        serve(uri)
        assert client.infer(PICTURE)["seq"] == 0


def test_refusal_is_raised_with_its_status(serve):
    service = serve("router+bind:tcp://127.0.0.1:*")
    with Client(service.address) as client, pytest.raises(RequestError, match="no such model") as refusal:
        client.infer(PICTURE, model="unknown")
    assert refusal.value.status == "model_error"


def test_late_answer_is_not_taken_for_the_next_one(serve):
    service = serve("router+bind:tcp://127.0.0.1:*")
    with Client(service.address) as client:
        client.send(PICTURE, model="early")
        assert client.infer(PICTURE, model="cats") == {"seq": 1, "model": "cats"}


def test_missing_answer_says_where_and_how_long(serve):
    service = serve("router+bind:tcp://127.0.0.1:*")
    with (
        Client(service.address) as client,
        pytest.raises(TimeoutError, match=r"No answer from tcp://.* 0.05 s"),
    ):
        client.infer(PICTURE, model="slow", timeout_s=0.05)


def test_nobody_there_says_so():
    with Client("tcp://127.0.0.1:1") as client, pytest.raises(TimeoutError, match="Nobody took the picture"):
        client.infer(PICTURE, timeout_s=0.05)


@pytest.mark.parametrize("picture", ["cat.jpg", Path("cat.jpg")], ids=lambda value: type(value).__name__)
def test_a_path_is_not_a_picture(picture):
    with Client("tcp://127.0.0.1:1") as client, pytest.raises(TypeError, match=r"cat\.jpg.*read_bytes\(\)"):
        client.infer(picture)


@pytest.mark.parametrize("method", ["bind", "connect"])
def test_frames_are_pushed_to_a_pull_source(serve, tmp_path, method):
    uri = f"pull+{method}:ipc://{tmp_path}/door"
    with Client(uri, source="porch") as client:
        service = serve(uri)
        assert [client.send(PICTURE) for _ in range(3)] == [0, 1, 2]
        for _ in range(3):
            assert service.received.acquire(timeout=10)
        with pytest.raises(ValueError, match="gives no answers; use `send`"):
            client.infer(PICTURE)


def test_frames_are_published_to_a_sub_source(serve, tmp_path):
    uri = f"sub+connect:ipc://{tmp_path}/door"
    with Client(uri) as client:
        service = serve(uri)
        client.send(PICTURE)
        while not service.received.acquire(timeout=0.02):
            client.send(PICTURE)
    assert np.array_equal(service.frames[0][1], PICTURE)


@pytest.mark.parametrize("endpoint", ["", "127.0.0.1:5601", "dealer+bind:tcp://h:1", "http://h:1"])
def test_endpoint_that_is_none_is_refused(endpoint):
    with pytest.raises(ValueError, match=r"expected e\.g\. router\+bind:tcp://127\.0\.0\.1:5601"):
        Client(endpoint)


def test_address_that_cannot_be_leaves_nothing_open():
    with pytest.raises(zmq.ZMQError):
        Client("tcp://127.0.0.1:notaport")


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (PICTURE.astype(np.float32), "expected (h, w, 3) or (h, w) uint8, not (8, 10, 3) float32"),
        (np.zeros((4, 4, 4), np.uint8), "not (4, 4, 4) uint8"),
        (np.zeros(4, np.uint8), "not (4,) uint8"),
        (b"GIF89a", "expected a JPEG or PNG, not b'GIF89a'"),
    ],
)
def test_what_is_no_picture_is_refused_before_it_is_sent(picture, message):
    with Client("tcp://127.0.0.1:1") as client, pytest.raises(ValueError) as refusal:  # noqa: PT011
        client.send(picture)
    assert message in str(refusal.value)


def test_client_stands_alone():
    tree = ast.parse(Path(client_module.__file__).read_text())
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {(getattr(node, "module", None) or node.names[0].name).split(".")[0] for node in nodes}
    assert names - sys.stdlib_module_names == {"zmq", "msgspec", "numpy"}

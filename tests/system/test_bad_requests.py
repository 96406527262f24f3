"""Bad messages to a whole running service: each is refused and counted, and others are served."""

from __future__ import annotations

import json
import re
import signal
import time

import cv2
import msgspec
import numpy as np
import pytest
import zmq
from prometheus_client.parser import text_string_to_metric_families

from edgert.client import Client, RequestError
from edgert.exit_codes import ExitCode
from tests.fakes import store
from tests.fakes.process import WAIT_S, Service
from tests.fakes.store import Site

pytestmark = pytest.mark.system

PICTURE = np.full((8, 8, 3), 40, np.uint8)
PIXELS = PICTURE.tobytes()
JPEG = cv2.imencode(".jpg", PICTURE)[1].tobytes()
PNG = cv2.imencode(".png", PICTURE)[1].tobytes()
GOOD = {"v": 1, "id": 7, "format": "bgr8", "height": 8, "width": 8}


def head(**changes):
    """Return a good header with changes; None takes a key out."""
    return msgspec.msgpack.encode(
        {key: value for key, value in {**GOOD, **changes}.items() if value is not None}
    )


def shm(**changes):
    place = {"name": "/edgert-no-such-object", "offset": 0, "bytes": 192, "format": "bgr8"}
    return [head(format="shm"), msgspec.msgpack.encode({**place, **changes})]


BAD = {
    "no parts": ([], "has 0 parts; expected 2"),
    "header only": ([head()], "has 1 parts; expected 2"),
    "extra part": ([head(), PIXELS, b"more"], "more than 2 parts; expected 2"),
    "a hundred parts": ([head(), *[b"x"] * 100], "more than 2 parts; expected 2"),
    "empty header": ([b"", PIXELS], "expected 2|header of 0 bytes"),
    "empty payload": ([head(), b""], "has 192 bytes; the payload has 0"),
    "truncated payload": ([head(), PIXELS[:-1]], "has 192 bytes; the payload has 191"),
    "payload with more": ([head(), PIXELS + b"x"], "has 192 bytes; the payload has 193"),
    "random header": ([b"\xc1\xff\x00\x17", PIXELS], "header of 4 bytes is refused"),
    "truncated header": ([head()[:-3], PIXELS], "header of .* bytes is refused"),
    "header that is a list": ([msgspec.msgpack.encode([1, 2]), PIXELS], "header of .* Expected `object`"),
    "broken JSON": ([b'{"v": 1, ', PIXELS], "header of 9 bytes is refused"),
    "nested JSON": ([b'{"v":' + b"[" * 8000, PIXELS], "header of .* is refused"),
    "huge header": ([head(source="x" * 20_000), PIXELS], "over the bound of 16384"),
    "long source": ([head(source="x" * 300), PIXELS], "length <= 256"),
    "other version": ([head(v=2), PIXELS], "is refused: .*2"),
    "no version": ([head(v=None), PIXELS], "missing required field `v`"),
    "no format": ([head(format=None), PIXELS], "missing required field `format`"),
    "unknown format": ([head(format="bgr24"), PIXELS], "Invalid enum value 'bgr24'"),
    "negative height": ([head(height=-8), PIXELS], ">= 0 - at `\\$.height`"),
    "zero width": ([head(width=0), b""], "Frame size 0x8 is not positive"),
    "giant sides": ([head(height=65535, width=65535), PIXELS], "over the source's bound"),
    "endless sides": ([head(height=2**63, width=1), PIXELS], "65535"),
    "height as text": ([head(height="8"), PIXELS], "Expected `int`, got `str`"),
    "odd nv12": ([head(format="nv12", height=7), PIXELS], "nv12 frame needs even sides"),
    "corrupt jpeg": ([head(format="jpeg"), JPEG[:2] + b"\0" * 100], "jpeg is corrupt"),
    "truncated jpeg": ([head(format="jpeg"), JPEG[:20]], "jpeg is"),
    "jpeg that is text": ([head(format="jpeg"), b"hello"], "no JPEG"),
    "jpeg of another size": ([head(format="jpeg", height=9), JPEG], "header says 8x9, the jpeg itself 8x8"),
    "jpeg that is giant": ([head(format="jpeg", height=None, width=None), None], "over the source's bound"),
    "corrupt png": ([head(format="png"), PNG[:40] + b"\0" * 50], "png"),
    "shm that is not there": (shm(), "no-such-object"),
    "shm elsewhere": (shm(name="../../etc/passwd"), "name|refused"),
    "shm of another size": (shm(bytes=191), "192 bytes; the place has 191"),
    "shm with negative offset": (shm(offset=-1), "refused"),
}
BAD["jpeg that is giant"][0][1] = JPEG.replace(b"\x00\x08\x00\x08\x03", b"\xff\xff\xff\xff\x03")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    site = Site(tmp_path_factory.mktemp("bad"))
    site.add("mean", store.mean_model())
    site.add("slow", store.slow_model(4))
    return site


@pytest.fixture(scope="module")
def service(site):
    """A service with an endpoint of each kind, used by all tests."""
    kinds = (("router", "mean"), ("rep", "mean"), ("pull", "mean"), ("sub", "mean"), ("wait", "slow"))
    text = "".join(
        f'[sources.{name}]\nuri = "{uri_of(site, name)}"\nmodels = ["{model}"]\nmax_frame_mb = 1\n'
        for name, model in kinds
    )
    with Service(site.write(text + "[http]\nport = 0\n")) as service:
        service.wait_ready()
        yield service
        assert service.stop() == ExitCode.OK
        assert "Traceback" not in service.log


@pytest.fixture
def dealer(service, site):
    """A socket on the router endpoint; what comes back has an empty part before it."""
    context = zmq.Context()
    socket = context.socket(zmq.DEALER)
    socket.connect(address_of(site, "router"))
    yield socket
    socket.close(linger=0)
    context.term()


@pytest.mark.parametrize("name", BAD)
def test_bad_message_is_refused_and_counted_and_a_good_one_is_served(service, dealer, name):
    parts, reason = BAD[name]
    before = refused(service, "router")
    dealer.send_multipart([b"", *parts])
    header, payload = receive(dealer)
    assert (header["status"], payload) == ("frame_error", b"")
    assert re.search(reason, header["message"]), header["message"]
    dealer.send_multipart([b"", head(), PIXELS])
    header, payload = receive(dealer)
    assert (header["id"], header["status"]) == (7, "ok")
    assert json.loads(payload)["tensors"][0]["data"] == [40, 40, 40]
    assert refused(service, "router") == before + 1


def test_answer_repeats_the_id_where_the_header_could_be_read(dealer):
    dealer.send_multipart([b"", head(id="picture 5"), b""])
    assert receive(dealer)[0]["id"] == "picture 5"


def test_unknown_model_is_named(service, dealer):
    dealer.send_multipart([b"", head(model="cat"), PIXELS])
    header, _ = receive(dealer)
    assert header["status"] == "model_error"
    assert header["message"] == "The request names model 'cat'; source 'router' feeds mean."


def test_message_over_the_bound_costs_its_sender_the_connection_and_nobody_else(service, site, dealer):
    greedy_context = zmq.Context()
    greedy = greedy_context.socket(zmq.DEALER)
    events = greedy.get_monitor_socket(zmq.EVENT_DISCONNECTED)
    try:
        greedy.connect(address_of(site, "router"))
        greedy.send_multipart([b"", head(), bytes(3 << 20)])
        assert events.poll(WAIT_S * 1000), "The connection was not ended."
        dealer.send_multipart([b"", head(), PIXELS])
        assert receive(dealer)[0]["status"] == "ok"
    finally:
        events.close()
        greedy.disable_monitor()
        greedy.close(linger=0)
        greedy_context.term()


def test_clients_that_vanish_with_requests_in_flight_are_counted(service, site, dealer):
    before = lost(service)
    with Client(uri_of(site, "wait")) as client:
        client.infer(PICTURE, timeout_s=WAIT_S)
        service.signal(signal.SIGSTOP)  # so that the client has gone before the first request is read
        for _ in range(4):
            client.send(PICTURE)
    service.signal(signal.SIGCONT)
    wait_until(lambda: lost(service) > before)
    with Client(uri_of(site, "wait")) as client:
        assert client.infer(PICTURE, timeout_s=WAIT_S)["model"] == "slow"
    dealer.send_multipart([b"", head(), PIXELS])
    assert receive(dealer)[0]["status"] == "ok"


def test_rep_refuses_and_serves_in_turn(service, site):
    with Client(uri_of(site, "rep")) as client:
        for _ in range(3):
            with pytest.raises(RequestError, match="names model 'cat'"):
                client.infer(PICTURE, model="cat")
            assert client.infer(PICTURE)["tensors"][0]["data"] == [40, 40, 40]


@pytest.mark.parametrize("name", ["pull", "sub"])
def test_sockets_without_answers_count_what_they_refuse(service, site, name):
    before = refused(service, name)
    context = zmq.Context()
    socket = context.socket(zmq.PUSH if name == "pull" else zmq.PUB)
    try:
        socket.connect(address_of(site, name))
        if name == "sub":  # until the subscription is known, nothing is sent
            published = metric(service, "edgert_results_published", source=name)
            wait_until(
                lambda: (
                    socket.send_multipart([head(), PIXELS])
                    or metric(service, "edgert_results_published", source=name) > published
                )
            )
        bad = [parts for parts, _ in BAD.values() if parts]
        for parts in bad:
            socket.send_multipart(parts)
        wait_until(lambda: refused(service, name) >= before + len(bad))
        published = metric(service, "edgert_results_published", source=name)
        socket.send_multipart([head(), PIXELS])
        wait_until(lambda: metric(service, "edgert_results_published", source=name) > published)
        assert refused(service, name) == before + len(bad)
    finally:
        socket.close(linger=0)
        context.term()


def uri_of(site, name):
    kind = "router" if name == "wait" else name
    return f"{kind}+bind:{address_of(site, name)}"


def address_of(site, name):
    return f"ipc://{site.folder}/{name}"


def receive(socket):
    """Return an answer's header and payload."""
    assert socket.poll(WAIT_S * 1000), "There is no answer."
    *_, header, payload = socket.recv_multipart()
    decode = msgspec.json.decode if header.startswith(b"{") else msgspec.msgpack.decode
    return decode(header), payload


def metric(service, name, **labels):
    """Return the sum of a metric's samples that have these labels."""
    families = text_string_to_metric_families(service.get("/metrics")[1].decode())
    samples = [sample for family in families for sample in family.samples]
    fitting = [sample for sample in samples if labels.items() <= sample.labels.items()]
    return sum(sample.value for sample in fitting if sample.name.removesuffix("_total") == name)


def refused(service, source):
    return metric(service, "edgert_frames_refused", source=source, reason="frame_error")


def lost(service):
    return metric(service, "edgert_frames_lost", source="wait", reason="unsent_answer")


def wait_until(is_so):
    """Ask the service until it is so."""
    deadline = time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < deadline, "What was waited for did not happen."

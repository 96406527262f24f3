"""Real sockets, inproc, ipc and tcp on loopback, with good clients and bad ones."""

from __future__ import annotations

import threading
import time
import uuid
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest
import zmq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgert.capture.capture import Capture
from edgert.capture.options import SourceOptions
from edgert.capture.unforeseen import UnforeseenError
from edgert.capture.zeromq import ZeroMqSource
from edgert.capture.zeromq_link import MIN_ANSWERS
from edgert.device.host import HostDriver
from edgert.errors import BusyError, ClosedError, ConfigError, FrameError, SourceError
from edgert.frames.result import Classes, Result
from edgert.frames.slots import SlotRing

WAIT_S = 10.0  # a test that waits so long has failed
PICTURE = np.random.default_rng(5).integers(0, 256, (8, 10, 3), np.uint8)
PIXELS = PICTURE.tobytes()


def encode_result(result):
    return msgspec.json.encode({"seq": result.seq, "model": result.model})


def make_result(seq=0, model="cats"):
    return Result("cam", seq, model, 1, 0, 0, 10, 8, Classes(np.zeros(0), np.zeros(0, int), ()))


def make_header(encode=msgspec.msgpack.encode, **changes):
    return encode({"v": 1, "source": "a", "seq": 0, "format": "bgr8", "height": 8, "width": 10} | changes)


@pytest.fixture
def context():
    context = zmq.Context()
    yield context
    context.destroy(linger=0)


@pytest.fixture
def ring():
    ring = SlotRing(4, 2**20, HostDriver().allocate)
    yield ring
    ring.close(timeout_s=0)


@pytest.fixture
def slot(ring):
    slot = ring.acquire_write()
    yield slot
    ring.abandon(slot)


@pytest.fixture
def serve(context):
    """Return a function that opens a source on a URI; it is closed after the test."""
    opened = []

    def open_source(uri, encode=encode_result, **options):
        chosen = SourceOptions(uri=uri, **({"max_frame_mb": 1.0} | options))
        shared = context if "inproc" in uri else None
        source = ZeroMqSource("cam", chosen, encode=encode, context=shared)
        opened.append(source)
        source.open()
        return source

    yield open_source
    for source in opened:
        source.close()


@pytest.fixture
def connect(context):
    """Return a function that connects a client socket of a type to an address."""
    sockets = []

    def make(kind, address, rcvhwm=1000):
        socket = context.socket(kind)
        socket.rcvhwm = rcvhwm
        socket.linger, socket.rcvtimeo, socket.sndtimeo = 0, int(WAIT_S * 1000), int(WAIT_S * 1000)
        socket.connect(address)
        sockets.append(socket)
        return socket

    yield make
    for socket in sockets:
        socket.close()


@pytest.fixture
def router(serve, connect):
    """A router source and a dealer connected to it."""
    source = serve(f"router+bind:inproc://{uuid.uuid4()}")
    return source, connect(zmq.DEALER, source.address)


def answer_of(socket):
    *envelope, header, payload = socket.recv_multipart()
    decode = msgspec.json.decode if header.startswith(b"{") else msgspec.msgpack.decode
    return envelope, decode(header), payload


def subscribe(publisher, source, slot):
    """Publish until the subscriber hears it: a PUB forgets what it sends before."""
    publisher.send_multipart([make_header(seq=0), PIXELS])
    while source.read(slot, 0.02) is None:
        publisher.send_multipart([make_header(seq=0), PIXELS])
    while source.read(slot, 0.02) is not None:
        pass
    source.take_counts()


class TestTransports:
    @pytest.mark.parametrize("transport", ["tcp", "ipc", "inproc"])
    def test_pull_takes_frames(self, serve, connect, slot, tmp_path, transport):
        address = {"tcp": "tcp://127.0.0.1:*", "ipc": f"ipc://{tmp_path}/cam", "inproc": "inproc://cam"}[
            transport
        ]
        source = serve(f"pull+bind:{address}")
        client = connect(zmq.PUSH, source.address)
        client.send_multipart([make_header(captured_utc_ns=77), PIXELS])
        captured = source.read(slot, WAIT_S)
        assert (captured.format, captured.height, captured.width, captured.captured_utc_ns) == (
            "bgr8",
            8,
            10,
            77,
        )
        assert captured.reply is None
        assert np.array_equal(slot.view(PICTURE.shape), PICTURE)

    def test_ipc_file_is_gone_after_closing(self, serve, tmp_path):
        source = serve(f"pull+bind:ipc://{tmp_path}/cam")
        assert (tmp_path / "cam").exists()
        source.close()
        assert not (tmp_path / "cam").exists()

    def test_ipc_socket_left_by_a_dead_process_is_taken_over(self, serve, connect, slot, tmp_path):
        leftover = __import__("socket").socket(1)
        leftover.bind(str(tmp_path / "cam"))
        leftover.close()
        source = serve(f"pull+bind:ipc://{tmp_path}/cam")
        connect(zmq.PUSH, source.address).send_multipart([make_header(), PIXELS])
        assert source.read(slot, WAIT_S)

    def test_ipc_socket_in_use_is_not_stolen(self, serve, tmp_path):
        serve(f"pull+bind:ipc://{tmp_path}/cam")
        with pytest.raises(SourceError, match="another process listens there"):
            serve(f"pull+bind:ipc://{tmp_path}/cam")

    def test_file_in_the_way_is_not_deleted(self, serve, tmp_path):
        (tmp_path / "cam").write_text("precious")
        with pytest.raises(SourceError, match="there is a file that is no socket"):
            serve(f"pull+bind:ipc://{tmp_path}/cam")
        assert (tmp_path / "cam").read_text() == "precious"

    def test_port_in_use_is_a_source_error_with_its_cause(self, serve):
        address = serve("pull+bind:tcp://127.0.0.1:*").address
        with pytest.raises(SourceError, match=r"cannot be opened: Address already in use") as failure:
            serve(f"pull+bind:{address}")
        assert isinstance(failure.value.__cause__, zmq.ZMQError)

    def test_ipv6_loopback(self, serve):
        try:
            source = serve("pull+bind:tcp://[::1]:*")
        except SourceError:
            pytest.skip("this machine has no IPv6")
        assert source.address.startswith("tcp://[::1]:")

    def test_source_may_connect_and_be_opened_again(self, serve, context, slot):
        server = context.socket(zmq.PUSH)
        server.setsockopt(zmq.IMMEDIATE, 1)  # keep nothing for a peer that has gone
        port = server.bind_to_random_port("tcp://127.0.0.1")
        source = serve(f"pull+connect:tcp://127.0.0.1:{port}")
        for _ in range(2):
            server.send_multipart([make_header(), PIXELS])
            while source.read(slot, 0.05) is None:  # the server may not have noticed that we had gone
                server.send_multipart([make_header(), PIXELS])
            source.close()
            source.open()
        server.close(linger=0)

    def test_inproc_that_nobody_can_reach_is_refused(self):
        source = ZeroMqSource("cam", SourceOptions(uri="pull+bind:inproc://a"), encode=encode_result)
        with pytest.raises(ConfigError, match="inproc:// reaches nobody without a context that is shared"):
            source.open()

    def test_closed_source_refuses_to_read(self, serve, slot):
        source = serve("pull+bind:inproc://a")
        source.close()
        with pytest.raises(ClosedError):
            source.read(slot, 0.0)

    def test_time_runs_out_without_a_message(self, serve, slot):
        assert serve("pull+bind:inproc://a").read(slot, 0.01) is None

    def test_broken_socket_is_a_source_error(self, serve, slot):
        source = serve("pull+bind:inproc://a")
        source._link._socket.close()
        with pytest.raises(SourceError, match="is broken"):
            source.read(slot, 0.01)


class TestSubscription:
    def test_topic_may_precede_the_frame(self, serve, context, slot):
        publisher = context.socket(zmq.PUB)
        publisher.bind("inproc://pub")
        source = serve("sub+connect:inproc://pub", topic="cam/")
        captured = None
        while captured is None:
            publisher.send_multipart([b"other", make_header(seq=9), PIXELS])
            publisher.send_multipart([b"cam/1", make_header(seq=1, model="x"), PIXELS])
            captured = source.read(slot, 0.02)
        assert captured.model == "x"
        publisher.close(linger=0)

    def test_gaps_are_counted_by_sender(self, serve, context, slot):
        publisher = context.socket(zmq.PUB)
        publisher.bind("inproc://pub")
        source = serve("sub+connect:inproc://pub", high_water_mark=100)
        subscribe(publisher, source, slot)
        for sender, seq in [("a", 5), ("b", 3), ("a", 6), ("b", 10), ("a", 0), ("a", 2)]:
            publisher.send_multipart([make_header(source=sender, seq=seq), PIXELS])
            assert source.read(slot, WAIT_S)
        assert source.take_counts() == {"gap": 4 + 6 + 1}
        assert source.take_counts() == {}
        publisher.close(linger=0)


class TestRequests:
    @pytest.mark.parametrize("encode", [msgspec.json.encode, msgspec.msgpack.encode])
    def test_router_answers_its_client_in_the_clients_encoding(self, router, slot, encode):
        source, client = router
        client.send_multipart([make_header(encode, id="q1", model="cats"), PIXELS])
        captured = source.read(slot, WAIT_S)
        assert captured.model == "cats"
        captured.reply.answer(make_result(seq=4))
        source.tend(0)
        envelope, header, payload = answer_of(client)
        assert envelope == []
        assert (header["id"], header["status"], header["seq"]) == ("q1", "ok", 4)
        assert msgspec.json.decode(payload) == {"seq": 4, "model": "cats"}

    def test_answer_wakes_the_thread_that_reads(self, router, slot):
        source, client = router
        client.send_multipart([make_header(id=1), PIXELS])
        reply = source.read(slot, WAIT_S).reply
        answering = threading.Thread(target=lambda: reply.answer(make_result()))
        answering.start()
        reader = threading.Thread(target=lambda: source.read(None, 2.0))
        reader.start()
        assert client.poll(1500)
        client.send_multipart([make_header(id=2), PIXELS])  # lets the reader go
        for thread in (answering, reader):
            thread.join()

    def test_answers_go_to_the_client_that_asked_in_any_order(self, serve, connect, ring):
        source = serve("router+bind:inproc://r")
        clients = [connect(zmq.DEALER, source.address) for _ in range(3)]
        for index, client in enumerate(clients):
            client.send_multipart([make_header(id=index), PIXELS])
        replies = [source.read(None, WAIT_S).reply for _ in clients]
        for reply in reversed(replies):
            reply.answer(make_result())
        source.tend(0)
        assert sorted(answer_of(client)[1]["id"] for client in clients) == [0, 1, 2]

    @pytest.mark.parametrize("kind", ["router", "rep"])
    def test_req_client_is_answered(self, serve, connect, slot, kind):
        source = serve(f"{kind}+bind:inproc://r")
        client = connect(zmq.REQ, source.address)
        for number in range(3):
            client.send_multipart([make_header(id=number), PIXELS])
            source.read(slot, WAIT_S).reply.answer(make_result())
            assert source.read(slot, 0.0) is None
            assert answer_of(client)[1]["id"] == number

    def test_rep_takes_the_next_request_only_after_its_answer(self, serve, connect, slot):
        source = serve("rep+bind:inproc://r")
        first, second = (connect(zmq.REQ, source.address) for _ in range(2))
        for client in (first, second):
            client.send_multipart([make_header(), PIXELS])
        reply = source.read(slot, WAIT_S).reply
        assert source.read(slot, 0.01) is None
        reply.refuse(BusyError("later"))
        assert source.read(slot, WAIT_S)

    def test_dealer_source_takes_frames_from_a_router(self, serve, context, slot):
        server = context.socket(zmq.ROUTER)
        server.bind("inproc://r")
        source = serve("dealer+connect:inproc://r")
        source._link._socket.send(b"hello")
        identity, _ = server.recv_multipart()
        for delimiter in ([], [b""]):
            server.send_multipart([identity, *delimiter, make_header(), PIXELS])
            assert source.read(slot, WAIT_S).reply is None
        server.close(linger=0)

    def test_client_that_vanished_is_counted_and_harms_nobody(self, router, connect, slot):
        source, client = router
        client.send_multipart([make_header(id=1), PIXELS])
        reply = source.read(slot, WAIT_S).reply
        client.close()
        assert source.read(slot, 0.05) is None  # notices
        reply.answer(make_result())
        source.tend(0)
        assert source.take_counts() == {"unsent_answer": 1}
        other = connect(zmq.DEALER, source.address)
        other.send_multipart([make_header(id=2), PIXELS])
        source.read(slot, WAIT_S).reply.answer(make_result())
        source.tend(0)
        assert answer_of(other)[1]["id"] == 2

    def test_rep_goes_on_after_its_client_vanished(self, serve, connect, slot):
        source = serve("rep+bind:tcp://127.0.0.1:*")
        client = connect(zmq.REQ, source.address)
        client.send_multipart([make_header(), PIXELS])
        reply = source.read(slot, WAIT_S).reply
        client.close()
        reply.answer(make_result())
        other = connect(zmq.REQ, source.address)
        other.send_multipart([make_header(id=2), PIXELS])
        source.read(slot, WAIT_S).reply.answer(make_result())
        source.tend(0)
        assert answer_of(other)[1]["id"] == 2

    def test_answer_after_closing_is_dropped(self, router, slot):
        source, client = router
        client.send_multipart([make_header(), PIXELS])
        reply = source.read(slot, WAIT_S).reply
        source.close()
        reply.answer(make_result())

    @pytest.mark.parametrize("kind", ["router", "rep"])
    @pytest.mark.parametrize("transport", ["tcp", "ipc"])
    def test_answers_that_wait_at_the_end_reach_a_client_that_reads_later(
        self, serve, connect, slot, tmp_path, transport, kind
    ):
        address = {"tcp": "tcp://127.0.0.1:*", "ipc": f"ipc://{tmp_path}/cam"}[transport]
        source = serve(f"{kind}+bind:{address}")
        client = connect(zmq.REQ, source.address)
        client.send_multipart([make_header(id=1), PIXELS])
        source.read(slot, WAIT_S).reply.answer(make_result(seq=3))
        source.close()
        assert answer_of(client)[1]["seq"] == 3
        assert source.take_counts() == {}

    def test_slow_client_gets_all_answers_that_waited_at_the_end(self, serve, connect, slot):
        source = serve("router+bind:tcp://127.0.0.1:*", encode=lambda _: bytes(8_000_000))
        client = connect(zmq.DEALER, source.address, rcvhwm=1)
        replies = []
        for _ in range(6):
            client.send_multipart([make_header(), PIXELS])
            replies.append(source.read(slot, WAIT_S).reply)
        for reply in replies:
            reply.answer(make_result())
        closing = threading.Thread(target=source.close)
        closing.start()
        for _ in replies:
            assert len(answer_of(client)[2]) == 8_000_000
        closing.join()

    def test_client_that_never_reads_delays_the_end_by_a_second(self, serve, connect, slot):
        big = bytes(8_000_000)
        source = serve("router+bind:tcp://127.0.0.1:*", encode=lambda _: big)
        client = connect(zmq.DEALER, source.address, rcvhwm=1)
        for _ in range(8):
            client.send_multipart([make_header(), PIXELS])
            source.read(slot, WAIT_S).reply.answer(make_result())
        began = time.monotonic()
        source.close()
        assert 0.9 < time.monotonic() - began < 3.0

    def test_client_that_never_reads_holds_few_answers(self, serve, connect, slot):
        source = serve("router+bind:inproc://r", high_water_mark=4)
        client = connect(zmq.DEALER, source.address, rcvhwm=1)
        for _ in range(60):
            client.send_multipart([make_header(), PIXELS])
            source.read(slot, WAIT_S).reply.answer(make_result())
        source.tend(0)
        assert source.take_counts() == {"unsent_answer": 60 - MIN_ANSWERS - 1}
        other = connect(zmq.DEALER, source.address)
        other.send_multipart([make_header(id=2), PIXELS])
        source.read(slot, WAIT_S).reply.answer(make_result())
        source.tend(0)
        assert answer_of(other)[1]["id"] == 2

    @pytest.mark.parametrize("options", [{"slots": 40}, {"high_water_mark": 40}])
    def test_client_gets_as_many_answers_at_once_as_it_may_have_requests(self, serve, connect, slot, options):
        source = serve("router+bind:inproc://r", **options)
        client = connect(zmq.DEALER, source.address, rcvhwm=1)
        replies = []
        for _ in range(40):
            client.send_multipart([make_header(), PIXELS])
            replies.append(source.read(slot, WAIT_S).reply)
        for reply in replies:
            reply.answer(make_result())
        source.tend(0)
        assert source.take_counts() == {}

    @pytest.mark.parametrize("kind", ["router", "rep"])
    def test_result_that_cannot_be_encoded_is_an_error_answer(self, serve, connect, slot, kind, caplog):
        threads = []

        def encode(result):
            threads.append(threading.current_thread())
            return encode_result(result) if result.seq == 2 else result.nonsense

        source = serve(f"{kind}+bind:inproc://r", encode=encode)
        client = connect(zmq.REQ, source.address)
        for seq in range(3):
            client.send_multipart([make_header(id=seq, model="cats"), PIXELS])
            reply = source.read(slot, WAIT_S).reply
            decoding = threading.Thread(target=reply.answer, args=[make_result(seq)])
            decoding.start()
            decoding.join()
            source.tend(0)
            _, header, _ = answer_of(client)
            assert (header["id"], header["status"]) == (seq, "ok" if seq == 2 else "model_error")
        assert set(threads) == {threading.current_thread()}
        assert source.take_counts() == {"unencoded_answer": 2}
        assert [record.levelname for record in caplog.records if record.exc_info] == ["ERROR"]

    def test_request_that_breaks_the_source_is_answered(self, router, slot):
        source, client = router
        source._dialect._payloads.read_into = lambda *_: {}["a bug"]
        client.send_multipart([make_header(id=1), PIXELS])
        with pytest.raises(UnforeseenError, match="a message cannot be read: KeyError"):
            source.read(slot, WAIT_S)
        assert answer_of(client)[1]["status"] == "unforeseen_error"

    def test_tend_sends_answers_but_takes_no_message(self, router, slot):
        source, client = router
        client.send_multipart([make_header(id=1), PIXELS])
        reply = source.read(slot, WAIT_S).reply
        client.send_multipart([make_header(id=2), PIXELS])
        threading.Timer(0.0, lambda: reply.answer(make_result())).run()
        source.tend(0.01)
        assert answer_of(client)[1]["id"] == 1
        assert source.read(slot, WAIT_S)


JPEG = cv2.imencode(".jpg", PICTURE)[1].tobytes()
BAD = {
    "empty": [b""],
    "nothing": [b"", b""],
    "header only": [make_header()],
    "extra part": [make_header(), PIXELS, b"more"],
    "many parts": [make_header(), PIXELS, *[b"x"] * 1000],
    "no header": [b"hello", PIXELS],
    "cut off header": [make_header()[:-4], PIXELS],
    "cut off payload": [make_header(), PIXELS[:-1]],
    "no payload": [make_header(), b""],
    "lie about the size": [make_header(height=9), PIXELS],
    "negative size": [make_header(height=-8), PIXELS],
    "giant size": [make_header(height=65535, width=65535), PIXELS],
    "impossible size": [make_header(height=2**62, width=2**62), PIXELS],
    "zero size": [make_header(height=0), b""],
    "over the bound": [make_header(height=1000, width=1000), PIXELS],
    "unknown format": [make_header(format="yuv9"), PIXELS],
    "unknown version": [make_header(v=2), PIXELS],
    "jpeg that is none": [make_header(format="jpeg", height=0, width=0), PIXELS],
    "corrupt jpeg": [make_header(format="jpeg"), JPEG[:300]],
    "jpeg of another size": [make_header(format="jpeg", height=7), JPEG],
    "shm without a place": [make_header(format="shm"), PIXELS],
    "shm elsewhere": [
        make_header(format="shm"),
        msgspec.msgpack.encode({"name": "../etc/passwd", "offset": 0, "bytes": 240}),
    ],
    "shm that is not there": [
        make_header(format="shm"),
        msgspec.msgpack.encode({"name": f"edgert-{uuid.uuid4()}", "offset": 0, "bytes": 240}),
    ],
}


class TestBadInput:
    @pytest.mark.parametrize("parts", BAD.values(), ids=BAD.keys())
    def test_bad_message_is_refused_and_answered_and_the_next_is_taken(self, router, slot, parts, capfd):
        source, client = router
        client.send_multipart(parts)
        with pytest.raises(FrameError):
            source.read(slot, WAIT_S)
        _, header, payload = answer_of(client)
        assert (header["v"], header["status"], payload) == (1, "frame_error", b"")
        assert header["message"]
        client.send_multipart([make_header(), PIXELS])
        assert source.read(slot, WAIT_S).height == 8

    @pytest.mark.parametrize("parts", BAD.values(), ids=BAD.keys())
    def test_rep_can_go_on_after_a_bad_message(self, serve, connect, slot, parts, capfd):
        source = serve("rep+bind:inproc://r")
        client = connect(zmq.REQ, source.address)
        client.send_multipart(parts)
        with pytest.raises(FrameError):
            source.read(slot, WAIT_S)
        assert answer_of(client)[1]["status"] == "frame_error"
        client.send_multipart([make_header(), PIXELS])
        assert source.read(slot, WAIT_S)

    def test_refusal_repeats_the_id_where_the_header_could_be_read(self, router, slot):
        source, client = router
        client.send_multipart([make_header(id="q7", model="cats"), b""])
        with pytest.raises(FrameError, match="has 240 bytes; the payload has 0"):
            source.read(slot, WAIT_S)
        header = answer_of(client)[1]
        assert (header["id"], header["model"], header["source"], header["seq"]) == ("q7", "cats", "cam", None)

    def test_part_over_the_bound_disconnects_its_sender_only(self, serve, connect, slot):
        source = serve("pull+bind:tcp://127.0.0.1:*", max_frame_mb=0.01)
        flood, good = (connect(zmq.PUSH, source.address) for _ in range(2))
        flood.send_multipart([make_header(), bytes(10_000_000)])
        good.send_multipart([make_header(), PIXELS])
        assert source.read(slot, WAIT_S)
        assert source.read(slot, 0.05) is None

    def test_bad_messages_cost_a_running_source_nothing_else(self, context, ring, capfd):
        frames, enough = [], threading.Event()

        def deliver(frame):
            frames.append(frame.image().copy())
            ring.commit(frame.slot, 0)
            if len(frames) == len(BAD) + 1:
                enough.set()

        options = SourceOptions(uri=f"pull+bind:inproc://{uuid.uuid4()}", max_frame_mb=1.0)
        source = ZeroMqSource("cam", options, encode=encode_result, context=context)
        capture = Capture("cam", source, ring, options, deliver)
        client = context.socket(zmq.PUSH)
        client.connect(options.uri.partition("bind:")[2])
        capture.start()
        for parts in (*BAD.values(), None):
            for message in (parts, [make_header(), PIXELS]):
                if message:
                    client.send_multipart(message)
        assert enough.wait(WAIT_S)
        capture.stop()
        client.close(linger=0)
        assert capture.stats.refused.snapshot() == {"frame_error": len(BAD)}
        assert all(np.array_equal(frame, PICTURE) for frame in frames)

    @settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        st.lists(st.binary(max_size=50) | st.just(make_header()) | st.just(PIXELS), min_size=1, max_size=7)
    )
    def test_any_message_is_a_frame_or_refused(self, router, slot, parts):
        source, client = router
        client.send_multipart(parts)
        try:
            assert source.read(slot, WAIT_S).height == 8
        except FrameError:
            assert answer_of(client)[1]["status"] == "frame_error"


class TestSharedMemory:
    def test_pixels_are_taken_from_where_the_message_says(self, router, slot):
        source, client = router
        path = Path("/dev/shm") / f"edgert-test-{uuid.uuid4()}"
        path.write_bytes(bytes(64) + PIXELS)
        try:
            place = {"name": f"/{path.name}", "offset": 64, "bytes": len(PIXELS)}
            client.send_multipart([make_header(format="shm"), msgspec.msgpack.encode(place)])
            captured = source.read(slot, WAIT_S)
        finally:
            path.unlink()
        assert captured.format == "bgr8"
        assert np.array_equal(slot.view(PICTURE.shape), PICTURE)

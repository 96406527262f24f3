"""Senders against a server that answers as it is told."""

import socket
import threading
from contextlib import contextmanager, suppress

import pytest

from tests.serve_bench.load import Prepared, measure, sending

REQUEST = b"POST /x HTTP/1.1\r\nContent-Length: 4\r\n\r\nping"
REQUEST_BYTES = len(REQUEST)
GOOD = b"HTTP/1.1 200 OK\r\nInference-Header-Content-Length: 2\r\nContent-Length: 6\r\n\r\n{}ping"


@contextmanager
def answering(*answers, cut=0, size=REQUEST_BYTES):
    """Answer requests of each connection with these, over and over; yields the port."""
    listener = socket.create_server(("127.0.0.1", 0))
    threads = []

    def serve(connection):
        number = 0
        with connection, suppress(ConnectionError):  # a sender whose time is up goes at any moment
            while _received(connection, size):
                answer = answers[number % len(answers)]
                number += 1
                if not answer:
                    return
                connection.sendall(answer[:cut])
                connection.sendall(answer[cut:])

    def accept():
        while True:
            try:
                connection = listener.accept()[0]
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threads.append(threading.Thread(target=serve, args=(connection,)))
            threads[-1].start()

    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        accepting.join()
        for thread in threads:
            thread.join()
        listener.close()


def _received(connection, size):
    got = 0
    while got < size:
        try:
            more = len(connection.recv(size - got))
        except OSError:
            return False
        if not more:
            return False
        got += more
    return True


@pytest.fixture
def request_file(tmp_path):
    file = tmp_path / "ask.request"
    file.write_bytes(REQUEST)
    return file


@pytest.mark.parametrize("senders", [1, 3])
@pytest.mark.parametrize("cut", [0, 30])
def test_right_answers_are_counted_and_timed(request_file, senders, cut):
    with answering(GOOD, cut=cut) as port:
        load = measure("http", port, Prepared(request_file, b"ping"), senders, 0.2, warm_s=0.05)
    assert load.failures == {}
    assert load.answers > 20
    assert load.statuses["200"] > load.answers  # with the warm-up's
    assert 0.5 < load.per_s * 0.2 / load.answers < 2.0
    assert 0 < load.p50_ms <= load.p99_ms < 200


def test_large_requests_and_answers_go_through(tmp_path):
    file, tail = tmp_path / "large.request", b"x" * 300_000
    file.write_bytes(tail)
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(tail)}\r\n\r\n".encode()
    with answering(head + tail, size=len(tail)) as port:
        load = measure("http", port, Prepared(file, tail), 2, 0.3, warm_s=0.0)
    assert load.failures == {}
    assert load.answers > 2


@pytest.mark.parametrize("senders", [1, 2])
def test_what_is_wrong_is_counted_with_its_reason(request_file, senders):
    missing = b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\ngone"
    other = GOOD.replace(b"ping", b"pong")
    with (
        answering(GOOD, missing, other, b"") as port,
        sending("http", port, Prepared(request_file, b"ping"), senders) as client,
    ):
        threading.Event().wait(0.5)
        load = client.result()
    assert {reason.partition(":")[0] for reason in load.failures} == {"404", "wrong", "lost"}
    assert "404: gone" in load.failures
    assert load.failed == sum(load.statuses.values()) - load.statuses["200"]


def test_what_is_tolerated_is_no_failure(request_file):
    missing = b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\ngone"
    with (
        answering(GOOD, missing) as port,
        sending("http", port, Prepared(request_file, b"ping"), 1, ["404"]) as client,
    ):
        threading.Event().wait(0.3)
        load = client.result()
    assert load.failed == 0
    assert load.statuses["404"] > 5


def test_a_server_that_is_not_there_is_a_failure(request_file):
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    load = measure("http", port, Prepared(request_file), 1, 0.1, warm_s=0.0)
    assert load.failed == 1
    assert "refused" in str(load.failures)

"""Senders in a process of their own: python client.py JOB.json, which prints what came of it as JSON.

Every sender sends the same prepared bytes and waits for the answer, over and over, on a connection of its
own. It goes on for `seconds`, or until a line comes on stdin if that is 0. Knows nothing of edgert, and as
little of the protocols as can be, so that the servers' work is what is measured.
"""

from __future__ import annotations

import itertools
import json
import select
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

RECEIVE_BYTES = 1 << 16
SMALL_BYTES = 1 << 14  # requests up to there share one thread: the change of threads would cost more
MAX_MESSAGE_BYTES = 64 << 20
STOP_AFTER_S = 30.0  # without an answer
OK = b"HTTP/1.1 200 "
_END = b"\r\n\r\n"
_LENGTH = b"\r\ncontent-length:"


class Records:
    """What came of the requests of all senders. Times are of those that were sent after the warm-up."""

    def __init__(self, job: dict) -> None:
        now_s = time.perf_counter()
        self.begin_s = now_s + job["warm_s"]
        self.end_s = self.begin_s + job["seconds"] if job["seconds"] else float("inf")
        self.proof = bytes.fromhex(job["proof"])
        self.tolerated = {"200", *job["tolerated"]}
        self.latencies_s: list[float] = []
        self.statuses: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()

    def answered(self, sent_s: float, now_s: float) -> None:
        """Note an answer that is as it should be."""
        if sent_s >= self.begin_s and now_s <= self.end_s:
            self.latencies_s.append(now_s - sent_s)
        self.statuses["200"] += 1

    def otherwise(self, status: str, text: str) -> None:
        """Note another answer, or none."""
        self.statuses[status] += 1
        if status not in self.tolerated:
            self.failures[f"{status}: {text[:200]}"] += 1


class HttpConnection:
    """One kept-alive connection. `statuses` of answers are looked at only where they are not as the last."""

    def __init__(self, job: dict, records: Records) -> None:
        self.records = records
        self.request = Path(job["request_file"]).read_bytes()
        self._address = (job["host"], job["port"])
        self._buffer = bytearray(RECEIVE_BYTES)
        self._expected = 0  # bytes of an answer like the last
        self.sent_s = 0.0
        self.socket = self._connected()

    def send(self) -> None:
        """Send the request, on a new connection if this one is lost."""
        while True:
            self.sent_s = time.perf_counter()
            try:
                self.socket.sendall(self.request)
            except OSError as error:
                self._lost(error)
            else:
                return

    def receive(self) -> None:
        """Take one answer and note it."""
        try:
            length = self._take()
        except OSError as error:
            self._lost(error)
            return
        now_s = time.perf_counter()
        buffer, records = self._buffer, self.records
        if not buffer.startswith(OK):
            records.otherwise(bytes(buffer[9:12]).decode("latin-1"), _body(buffer, length))
        elif not buffer.endswith(records.proof, 0, length):
            records.otherwise("wrong", "an answer has not what was sent")
        else:
            records.answered(self.sent_s, now_s)

    def _take(self) -> int:
        got = self.socket.recv_into(self._buffer)
        if got == self._expected and self._buffer.startswith(OK):
            return got
        needed = self._needed(got)
        while got < needed:
            more = self.socket.recv_into(memoryview(self._buffer)[got:needed])
            if not more:
                raise ConnectionError("the connection was closed within an answer")
            got += more
            needed = self._needed(got) if self._expected != needed else needed
        return got

    def _needed(self, got: int) -> int:
        """Return how long the answer is, at least one byte more than `got` while its head is not whole."""
        if not got:
            raise ConnectionError("the connection was closed")
        end = self._buffer.find(_END, 0, got)
        if end < 0:
            return got + 1
        head = bytes(self._buffer[: end + 2]).lower()
        at = head.find(_LENGTH)
        length = int(head[at + len(_LENGTH) : head.index(b"\r", at + 2)]) if at >= 0 else 0
        self._expected = end + len(_END) + length
        if self._expected > len(self._buffer):
            self._buffer.extend(bytes(self._expected - len(self._buffer)))
        return self._expected

    def _lost(self, error: OSError) -> None:
        self.records.otherwise("lost", f"{type(error).__name__}: {error}")
        self.socket.close()
        time.sleep(0.05)
        self.socket = self._connected()

    def _connected(self) -> socket.socket:
        made = socket.create_connection(self._address, STOP_AFTER_S)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made


def _body(buffer: bytearray, length: int) -> str:
    return bytes(buffer[max(0, buffer.find(_END)) : length]).strip().decode("utf-8", "replace")


def send_http_in_one_thread(job: dict, records: Records) -> None:
    """Run all senders on one thread."""
    connections = [HttpConnection(job, records) for _ in range(job["senders"])]
    for connection in connections:
        connection.send()
    while time.perf_counter() < records.end_s:
        by_number = {connection.socket.fileno(): connection for connection in connections}
        _turn(by_number, records)


def _turn(by_number: dict[int, HttpConnection], records: Records) -> None:
    """Serve these sockets until one of them is another."""
    poller = select.epoll()
    for number in by_number:
        poller.register(number, select.EPOLLIN)
    with poller:
        while time.perf_counter() < records.end_s:
            ready = poller.poll(STOP_AFTER_S)
            if not ready:
                records.otherwise("late", f"no answer in {STOP_AFTER_S:.0f} s")
            for number, _ in ready:
                connection = by_number[number]
                before = connection.socket
                connection.receive()
                connection.send()
                if connection.socket is not before:
                    return


def send_http(job: dict, records: Records) -> None:
    """Run one sender."""
    connection = HttpConnection(job, records)
    while time.perf_counter() < records.end_s:
        connection.send()
        connection.receive()
    connection.socket.close()


def send_grpc(job: dict, records: Records) -> None:
    """Run one sender, on a channel of its own."""
    import grpc

    request = Path(job["request_file"]).read_bytes()
    options = [
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ]
    clock, proof = time.perf_counter, records.proof
    with grpc.insecure_channel(f"{job['host']}:{job['port']}", options) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        while clock() < records.end_s:
            sent_s = clock()
            try:
                answer = call(request, timeout=STOP_AFTER_S)
            except grpc.RpcError as error:
                records.otherwise(error.code().name, error.details())
                time.sleep(0.001)
                continue
            if proof in answer:
                records.answered(sent_s, clock())
            else:
                records.otherwise("wrong", "an answer has not what was sent")


def run(job: dict) -> dict:
    """Run all senders to their end, and return what came of it."""
    records = Records(job)
    if not job["seconds"]:
        threading.Thread(target=_await_line, args=(records,), daemon=True).start()
    is_small = Path(job["request_file"]).stat().st_size <= SMALL_BYTES
    if job["protocol"] == "http" and is_small and job["senders"] > 1:
        _until_lost(send_http_in_one_thread, job, records)
    else:
        send = send_http if job["protocol"] == "http" else send_grpc
        arguments = (send, job, records)
        threads = [threading.Thread(target=_until_lost, args=arguments) for _ in range(job["senders"])]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return summary(records)


def _until_lost(send: Callable[[dict, Records], None], job: dict, records: Records) -> None:
    """Send; a server to which no connection can be had is a failure."""
    try:
        send(job, records)
    except OSError as error:
        records.otherwise("lost", f"{type(error).__name__}: {error}")


def summary(records: Records) -> dict:
    """Return rate, times and what went wrong."""
    ascending = sorted(records.latencies_s)
    seconds = min(records.end_s, time.perf_counter()) - records.begin_s
    return {
        "answers": len(ascending),
        "per_s": len(ascending) / seconds,
        "p50_ms": _at(ascending, 0.50) * 1e3,
        "p99_ms": _at(ascending, 0.99) * 1e3,
        "statuses": dict(records.statuses),
        "failed": sum(records.failures.values()),
        "failures": dict(itertools.islice(records.failures.items(), 5)),
    }


def _at(ascending: list[float], share: float) -> float:
    return ascending[min(int(share * len(ascending)), len(ascending) - 1)] if ascending else 0.0


def _await_line(records: Records) -> None:
    sys.stdin.readline()
    records.end_s = time.perf_counter()


if __name__ == "__main__":
    print(json.dumps(run(json.loads(Path(sys.argv[1]).read_text()))))

"""Malformed requests in great number, while good ones go on."""

from __future__ import annotations

import random
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import grpc

from tests.bench.figures import Row
from tests.serve_bench import stores
from tests.serve_bench.bench import Bench
from tests.serve_bench.edgert_server import EdgertServer
from tests.serve_bench.good import GROWTH_LIMIT_MB, Witness, watched
from tests.serve_bench.malformed import METHOD, first_api, http2_frames, http_body, http_head, mutated
from tests.serve_bench.places import HOST
from tests.serve_bench.prepared import identity_values, prepare
from tests.serve_bench.server import Server

REQUESTS = 10_000
WEIGHED_AT = 0.2  # of all requests, and at the end
SHARES = {"HTTP body": 0.35, "HTTP head": 0.25, "first API": 0.1, "gRPC message": 0.2, "HTTP/2 frames": 0.1}
SEED = 20_260_101
ANSWER_TIMEOUT_S = 5.0

Attack = Callable[[random.Random], str]  # returns what it was answered


def figures(bench: Bench) -> Iterator[Row]:
    """Yield the row, and how the attacks were answered."""
    store, times = bench.folder / "store", bench.times(REQUESTS)
    stores.write_identity(store)
    with ExitStack() as stack:
        server = stack.enter_context(EdgertServer(bench.folder / "edgert", store))
        witness = stack.enter_context(watched(bench, server))
        attacks = _attacks(bench.folder, server, stack)
        answers = _attack(attacks, witness, times)
        yield _row(witness, answers, times)
        for kind, told in answers.items():
            text = ", ".join(f"{count} {answer}" for answer, count in sorted(told.items()))
            yield Row(f"malformed, {kind}: answered", text, "", True, {"answers": dict(told)})


def _attacks(folder: Path, server: Server, stack: ExitStack) -> dict[str, Attack]:
    """Return the attacks by kind; those on an interface that is not there are left out."""
    request = prepare(folder, "http", "identity", "INPUT0", identity_values()).file.read_bytes()
    body = request.partition(b"\r\n\r\n")[2]
    json_bytes = body.rindex(b"}") + 1
    message = prepare(folder, "grpc", "identity", "INPUT0", identity_values()).file.read_bytes()
    channel = stack.enter_context(grpc.insecure_channel(f"{HOST}:{server.grpc_port}"))
    call = channel.unary_unary(METHOD)
    http, http2 = server.http_port, server.grpc_port
    attacks: dict[str, Attack] = {
        "HTTP body": lambda dice: send_raw(http, http_body(body, json_bytes, dice)),
        "HTTP head": lambda dice: send_raw(http, http_head(body, json_bytes, dice)),
        "gRPC message": lambda dice: _call(call, mutated(message, dice)),
        "HTTP/2 frames": lambda dice: send_raw(http2, http2_frames(message, dice)),
    }
    if server.ask("GET", "/api/health/live")[0] == 200:
        attacks["first API"] = lambda dice: send_raw(http, first_api(dice))
    return attacks


def _attack(attacks: dict[str, Attack], witness: Witness, times: int) -> dict[str, Counter[str]]:
    dice = random.Random(SEED)
    answers = {kind: Counter[str]() for kind in attacks}
    kinds = dice.choices(list(attacks), [SHARES[kind] for kind in attacks], k=times)
    for number, kind in enumerate(kinds):
        answers[kind][attacks[kind](dice)] += 1
        if number == int(times * WEIGHED_AT) or number == times - 1:
            witness.weigh()
    return answers


def send_raw(port: int, data: bytes) -> str:
    """Send bytes and nothing after them; return the status of an HTTP/1.1 answer, or what came instead."""
    try:
        with socket.create_connection((HOST, port), ANSWER_TIMEOUT_S) as connection:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            answer = connection.recv(1 << 16)
            rest = answer
            while rest:
                rest = connection.recv(1 << 16)
    except TimeoutError:
        return "left open"
    except OSError:
        return "reset"
    if answer.startswith(b"HTTP/1."):
        return answer[9:12].decode()
    return "other bytes" if answer else "closed"


def _call(call: grpc.UnaryUnaryMultiCallable, message: bytes) -> str:
    try:
        call(message, timeout=ANSWER_TIMEOUT_S)
    except grpc.RpcError as error:
        return error.code().name
    return "OK"


def _row(witness: Witness, answers: dict[str, Counter[str]], times: int) -> Row:
    load = witness.end()
    own = sum(told[status] for told in answers.values() for status in ("500", "INTERNAL", "UNKNOWN"))
    value = f"{witness.told(load)}; {own} answered as the server's own fault"
    is_met = not load.failed and load.answers > times // 10 and witness.survived()
    data = {"good": load._asdict(), "grown_mb": witness.grown_mb, "own_faults": own}
    is_met = is_met and witness.grown_mb <= GROWTH_LIMIT_MB
    return Row(
        f"{times} malformed requests under traffic", value, f"0, {GROWTH_LIMIT_MB:.0f} MB", is_met, data
    )

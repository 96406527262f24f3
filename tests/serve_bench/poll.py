"""A server that follows its store, while somebody writes into that store slowly, in every way there is."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.bench.figures import Row
from tests.serve_bench import stores
from tests.serve_bench.bench import Bench
from tests.serve_bench.edgert_server import EdgertServer
from tests.serve_bench.good import Witness, watched
from tests.serve_bench.server import Server

VERSIONS = 12
BALLAST_BYTES = 1_000_000
PIECES = 10
PIECE_S = 0.15
PAUSE_S = 0.5  # of a writer that closes a half-written file and comes back
TAKEN_TIMEOUT_S = 20.0
HALF_S = 6.0  # that a half-written file is left alone, longer than edgert waits for a writer
SERVE = 'mode = "poll"\npoll_s = 1.0'

Write = Callable[[Path, bytes], None]


def figures(bench: Bench) -> Iterator[Row]:
    """Yield the row."""
    store = bench.folder / "store"
    stores.write_identity(store)
    time.sleep(2.5)  # what is younger counts as still being written
    server = EdgertServer(bench.folder / "edgert", store, serve=SERVE, log_level="info")
    with server, watched(bench, server) as witness:
        yield _row(witness, *_write_all(server, store / "identity", bench.times(VERSIONS)))


def _write_all(server: Server, model: Path, count: int) -> tuple[int, list[str]]:
    """Write versions one after the other; return how many, and what went wrong."""
    wrong: list[str] = []
    ways = itertools.cycle((write_slowly, write_in_two_sittings, write_aside, write_over))
    numbers = range(2, count + 2)
    for number, write in zip(numbers, ways, strict=False):
        folder = model / str(number)
        write(folder, stores.identity_model(BALLAST_BYTES).as_bytes())
        if not _is_taken(server, number):
            wrong.append(f"version {number}, {write.__name__}: not taken")
    if _loaded_half(server, model / str(count + 2)):
        wrong.append("a half-written version took the place of a whole one")
    if not _is_taken(server, count + 2):
        wrong.append("a version that was whole in the end was not taken")
    return count + 1, wrong


def write_slowly(folder: Path, content: bytes) -> None:
    """Write a version's file in place, piece by piece."""
    folder.mkdir()
    _write_pieces(folder / "model.onnx", content)


def write_in_two_sittings(folder: Path, content: bytes) -> None:
    """Write half, close the file, and come back."""
    folder.mkdir()
    file, half = folder / "model.onnx", len(content) // 2
    file.write_bytes(content[:half])
    time.sleep(PAUSE_S)
    with file.open("ab") as more:
        more.write(content[half:])


def write_aside(folder: Path, content: bytes) -> None:
    """Write a folder beside, and rename it."""
    aside = folder.with_name(f".{folder.name}")
    write_slowly(aside, content)
    aside.rename(folder)


def write_over(folder: Path, content: bytes) -> None:
    """Write a version, and its file a second time over the first."""
    folder.mkdir()
    (folder / "model.onnx").write_bytes(content)
    _write_pieces(folder / "model.onnx", content)


def _write_pieces(file: Path, content: bytes) -> None:
    size = -(-len(content) // PIECES)
    with file.open("wb", buffering=0) as out:
        for start in range(0, len(content), size):
            out.write(content[start : start + size])
            time.sleep(PIECE_S)


def _loaded_half(server: Server, folder: Path) -> bool:
    """Leave half a version for longer than anybody waits, then finish it; say whether it was served."""
    content = stores.identity_model(BALLAST_BYTES).as_bytes()
    folder.mkdir()
    (folder / "model.onnx").write_bytes(content[: len(content) // 2])
    time.sleep(HALF_S)
    is_served = folder.name in _versions(server)
    (folder / "model.onnx").write_bytes(content)
    return is_served


def _is_taken(server: Server, number: int) -> bool:
    until_s = time.monotonic() + TAKEN_TIMEOUT_S
    while _versions(server) != [str(number)]:
        if time.monotonic() > until_s:
            return False
        time.sleep(0.1)
    return True


def _versions(server: Server) -> list[str]:
    status, body = server.ask("GET", "/v2/models/identity")
    return json.loads(body)["versions"] if status == 200 else []


def _row(witness: Witness, count: int, wrong: list[str]) -> Row:
    load = witness.end()
    value = f"{witness.told(load)}; {len(wrong)} wrong {'; '.join(wrong[:2])}".rstrip()
    is_met = not load.failed and not wrong and load.answers > count and witness.survived()
    data = {"good": load._asdict(), "wrong": wrong}
    return Row(f"poll mode, {count} versions written slowly, under traffic", value, "0", is_met, data)

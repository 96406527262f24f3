"""How long a server takes to be ready, and how much memory it has then and while it works."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from tests.bench.figures import Row
from tests.serve_bench import stores
from tests.serve_bench.bench import Bench
from tests.serve_bench.compare import NOT_COMPARED, at_most, in_turns, middle, ratio_of, told
from tests.serve_bench.edgert_server import EdgertServer
from tests.serve_bench.load import sending
from tests.serve_bench.memory import Memory
from tests.serve_bench.prepared import image_values, prepare
from tests.serve_bench.server import Server

ROUNDS = 5
WANTED = 0.7
SENDERS = 4
LOAD_S = 6.0  # before it is weighed
SETTLE_S = 0.5

Open = Callable[[], Server]


class Start(NamedTuple):
    """Of one start."""

    ready_s: float
    memory: Memory


def figures(bench: Bench) -> Iterator[Row]:
    """Yield rows of the start with a model that does nothing, and of memory under SSD load."""
    ours, python, theirs = (bench.folder / name for name in ("onnx", "python", "theirs"))
    stores.write_identity(ours)
    for store in (python, theirs):
        stores.write_python_identity(store)
    opens: dict[str, Open] = {
        "model in Python": lambda: EdgertServer(bench.folder / "edgert-python", python),
        "ONNX model": lambda: EdgertServer(bench.folder / "edgert", ours),
    }
    if bench.triton:
        opens["tritonserver"] = partial(bench.triton.open, bench.folder / "triton", theirs)
    starts = in_turns({name: partial(_start, open_) for name, open_ in opens.items()}, bench.rounds(ROUNDS))
    yield from start_rows(starts)
    yield from _loaded(bench)


def start_rows(starts: dict[str, list[Start]]) -> Iterator[Row]:
    """Yield the rows of starts, by contender; `tritonserver` may be missing."""
    theirs = starts.get("tritonserver", [])
    for name, own in starts.items():
        if name == "tritonserver":
            continue
        title = f"identity, {name}"
        yield _row(f"{title}: start to ready", _ready(own), _ready(theirs), "s")
        yield _row(
            f"{title}: PSS at start", _megabytes(own), _megabytes(theirs), "MB", _kernel_s(own, theirs)
        )


def _loaded(bench: Bench) -> Iterator[Row]:
    ours, theirs = bench.folder / "ssd", bench.folder / "their-ssd"
    stores.write_ssd(ours, bench.ssd)
    opens: dict[str, Open] = {"edgert": lambda: EdgertServer(bench.folder / "edgert-ssd", ours)}
    if bench.triton and bench.triton.onnxruntime:
        stores.write_python_ssd(theirs, bench.ssd)
        opens["tritonserver"] = partial(bench.triton.open, bench.folder / "triton-ssd", theirs)
    weigh = {name: partial(_weigh, bench, open_) for name, open_ in opens.items()}
    weighed = in_turns(weigh, bench.rounds(3))
    own, other = weighed["edgert"], weighed.get("tritonserver", [])
    yield _row(
        f"PSS under SSD load, {SENDERS} senders",
        _megabytes(own),
        _megabytes(other),
        "MB",
        _kernel_s(own, other),
    )


def _start(open_: Open) -> Start:
    with open_() as server:
        time.sleep(SETTLE_S)
        return Start(server.start_s, server.memory())


def _weigh(bench: Bench, open_: Open) -> Start:
    request = prepare(bench.folder, "http", "ssd", "images", image_values())
    with open_() as server, sending("http", server.http_port, request, SENDERS) as senders:
        time.sleep(bench.seconds(LOAD_S))
        memory = server.memory()
        load = senders.result()
        if load.failed or not load.statuses.get("200"):
            raise RuntimeError(f"{server.title} did not answer: {load.failures}")
        return Start(server.start_s, memory)


def _row(figure: str, ours: list[float], theirs: list[float], unit: str, more: str = "") -> Row:
    data = {"ours": ours, "theirs": theirs}
    if not theirs:
        return told(figure, f"{middle(ours):.2f} {unit}; {NOT_COMPARED}", data)
    text = f"{middle(ours):.2f} against {middle(theirs):.2f} {unit}{more}"
    return at_most(f"{figure}, against tritonserver", ratio_of(ours, theirs), WANTED, text, data)


def _ready(starts: list[Start]) -> list[float]:
    return [start.ready_s for start in starts]


def _megabytes(starts: list[Start]) -> list[float]:
    return [start.memory.alone_bytes / 1e6 for start in starts]


def _kernel_s(*sides: list[Start]) -> str:
    """Say what the kernel's own PSS is, which other programs on the machine make smaller."""
    sizes = [middle([start.memory.pss_bytes / 1e6 for start in starts]) for starts in sides]
    return "; as the kernel divides it " + " and ".join(f"{size:.1f}" for size in sizes)

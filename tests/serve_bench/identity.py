"""Requests a second of a model that does nothing, so of the server alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial

from tests.bench.figures import Row
from tests.serve_bench import stores
from tests.serve_bench.bench import Bench
from tests.serve_bench.compare import at_least, at_most, in_turns, middle, not_compared, ratio_of, told
from tests.serve_bench.edgert_server import EdgertServer
from tests.serve_bench.load import Load, Protocol, measure
from tests.serve_bench.prepared import identity_values, prepare

ROUNDS = 5
SECONDS = 2.0
WANTED = {1: 1.0, 4: 0.6, 16: 0.6}  # by senders; the issue names 1 and 16
PROTOCOLS: tuple[Protocol, ...] = ("http", "grpc")

Contenders = dict[str, tuple[int, str]]  # port and model by name


def figures(bench: Bench) -> Iterator[Row]:
    """Yield rows for each protocol and number of senders."""
    with ExitStack() as stack:
        ports = _open(bench, stack)
        for protocol in PROTOCOLS:
            for senders, wanted in WANTED.items():
                yield from _compared(bench, ports, protocol, senders, wanted)


def _open(bench: Bench, stack: ExitStack) -> dict[str, dict[Protocol, int]]:
    """Start the servers; return ports by contender."""
    ours, theirs = bench.folder / "ours", bench.folder / "theirs"
    stores.write_identity(ours, "identity")
    stores.write_python_identity(ours, "identity_python")
    stores.write_python_identity(theirs, "identity")
    edgert = stack.enter_context(EdgertServer(bench.folder / "edgert", ours))
    own: dict[Protocol, int] = {"http": edgert.http_port, "grpc": edgert.grpc_port}
    ports = {"edgert": own, "edgert, Python": own}
    if bench.triton:
        triton = stack.enter_context(bench.triton.open(bench.folder / "triton", theirs))
        ports["tritonserver"] = {"http": triton.http_port, "grpc": triton.grpc_port}
    return ports


def _compared(
    bench: Bench, ports: dict[str, dict[Protocol, int]], protocol: Protocol, senders: int, wanted: float
) -> Iterator[Row]:
    contenders: dict[str, Callable[[], Load]] = {}
    for name, own in ports.items():
        model = "identity_python" if name == "edgert, Python" else "identity"
        request = prepare(bench.folder, protocol, model, "INPUT0", identity_values(), is_echoed=True)
        contenders[name] = partial(measure, protocol, own[protocol], request, senders, bench.seconds(SECONDS))
    measured = in_turns(contenders, bench.rounds(ROUNDS))
    title = f"identity, {protocol}, {senders} sender(s)"
    data = {name: [load._asdict() for load in loads] for name, loads in measured.items()}
    yield from _rows(title, measured, wanted, data)


def _rows(title: str, measured: dict[str, list[Load]], wanted: float, data: dict) -> Iterator[Row]:
    ours, python = measured["edgert"], measured["edgert, Python"]
    theirs = measured.get("tritonserver")
    if theirs is None:
        yield told(
            f"{title}: requests/s", f"{_rate(ours):.0f}; with a model in Python {_rate(python):.0f}", data
        )
        yield not_compared(f"{title}: against tritonserver")
        return
    rates = [[load.faultless_per_s for load in loads] for loads in (ours, python, theirs)]
    more = f"{_rate(ours):.0f} against {_rate(theirs):.0f}/s{_failed(ours)}"
    yield at_least(
        f"{title}: requests/s against tritonserver", ratio_of(rates[0], rates[2]), wanted, more, data
    )
    late = [[load.p99_ms for load in loads] for loads in (ours, theirs)]
    p50 = " ".join(f"{middle([load.p50_ms for load in loads]):.2f}" for loads in (ours, theirs))
    more = f"{middle(late[0]):.2f} against {middle(late[1]):.2f} ms; p50 {p50}"
    yield at_most(f"{title}: p99 against tritonserver", ratio_of(*late), 1.0, more, {})
    value = f"{ratio_of(rates[1], rates[2])}; {_rate(python):.0f}/s{_failed(python)}"
    yield told(f"{title}: requests/s with edgert's model in Python", value)


def _rate(loads: list[Load]) -> float:
    return middle([load.per_s for load in loads])


def _failed(loads: list[Load]) -> str:
    failed = sum(load.failed for load in loads)
    return f"; {failed} FAILED" if failed else ""

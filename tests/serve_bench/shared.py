"""What shared memory saves: images that are sent through a socket, and images that are there already."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from typing import NamedTuple

from tests.bench.figures import Row
from tests.serve_bench import stores
from tests.serve_bench.bench import Bench
from tests.serve_bench.compare import in_turns, middle, ratio_of, told
from tests.serve_bench.edgert_server import EdgertServer
from tests.serve_bench.load import Load, Prepared, measure
from tests.serve_bench.prepared import image_values, prepare
from tests.serve_bench.region import Region
from tests.serve_bench.server import Server

ROUNDS = 5
SECONDS = 2.0
_COPIES = "edgert_device_copies_total"
_BYTES = "edgert_device_copied_bytes_total"


class Sent(NamedTuple):
    """What came of one round, with copies of a request by kind, as the server counts them."""

    load: Load
    copies: dict[str, float]
    copied_bytes: dict[str, float]


def figures(bench: Bench) -> Iterator[Row]:
    """Yield rows for one sender and four."""
    store, image = bench.folder / "store", image_values()
    stores.write_take(store)
    with ExitStack() as stack:
        server = stack.enter_context(EdgertServer(bench.folder / "edgert", store))
        region = stack.enter_context(Region(server, "images", image.nbytes, image))
        ask = partial(prepare, bench.folder, "http", "take", "images", image)
        requests = {"HTTP": ask(), "shared memory": ask(region=region.name)}
        for senders in (1, 4):
            ways = {
                name: partial(_send, server, request, senders, bench.seconds(SECONDS))
                for name, request in requests.items()
            }
            yield from _rows(senders, in_turns(ways, bench.rounds(ROUNDS)))


def _send(server: Server, request: Prepared, senders: int, seconds: float) -> Sent:
    before = [read_counters(_page(server), name) for name in (_COPIES, _BYTES)]
    load = measure("http", server.http_port, request, senders, seconds)
    after = [read_counters(_page(server), name) for name in (_COPIES, _BYTES)]
    answers = max(load.statuses.get("200", 0), 1)
    each = [
        {kind: (count - old.get(kind, 0.0)) / answers for kind, count in new.items()}
        for old, new in zip(before, after, strict=True)
    ]
    return Sent(load, *each)


def _page(server: Server) -> str:
    return server.ask("GET", "/metrics")[1].decode()


def read_counters(page: str, name: str) -> dict[str, float]:
    """Return a counter of the metrics' page by its label `kind`."""
    prefix = f'{name}{{kind="'
    lines = [line.removeprefix(prefix) for line in page.splitlines() if line.startswith(prefix)]
    return {line.partition('"')[0]: float(line.rpartition(" ")[2]) for line in lines}


def _rows(senders: int, measured: dict[str, list[Sent]]) -> Iterator[Row]:
    http, shared = measured["HTTP"], measured["shared memory"]
    rates = [[sent.load.faultless_per_s for sent in side] for side in (shared, http)]
    late = [middle([sent.load.p50_ms for sent in side]) for side in (shared, http)]
    value = (
        f"{ratio_of(*rates)}; {middle(rates[0]):.0f} against {middle(rates[1]):.0f}/s; "
        f"p50 {late[0]:.2f} against {late[1]:.2f} ms"
    )
    data = {name: [sent._asdict() for sent in side] for name, side in measured.items()}
    yield told(f"1.08 MB inputs, {senders} sender(s): shared memory against HTTP", value, data)
    for name, side in measured.items():
        yield told(f"1.08 MB inputs, {senders} sender(s), {name}: copies of a request", _copies(side[-1]))


def _copies(sent: Sent) -> str:
    parts = [
        f"{kind} {count:.2f} ({sent.copied_bytes.get(kind, 0.0) / 1e6:.2f} MB)"
        for kind, count in sent.copies.items()
        if count > 0.005
    ]
    return ", ".join(parts) or "none"

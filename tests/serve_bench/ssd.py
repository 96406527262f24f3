"""Images a second of a real detector against a bare loop on onnxruntime, and the CPU time of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import NamedTuple

from tests.bench.figures import Row
from tests.serve_bench import stores
from tests.serve_bench.bare_loop import BareLoop
from tests.serve_bench.bench import Bench
from tests.serve_bench.compare import at_least, at_most, in_turns, middle, not_compared, ratio_of, told
from tests.serve_bench.edgert_server import EdgertServer
from tests.serve_bench.load import Prepared, Protocol, measure
from tests.serve_bench.prepared import image_values, prepare
from tests.serve_bench.region import Region
from tests.serve_bench.server import Server

ROUNDS = 5
SECONDS = 4.0
SENDERS = (1, 4, 16)
WANTED = 0.90
CPU_WANTED = 1.15
OUTPUT_BYTES = {"boxes": 4 * 1917 * 4, "scores": 4 * 1917 * 90}


class Images(NamedTuple):
    """What one contender did in one round."""

    per_s: float
    cpu_ms: float  # of the server, for each image
    p99_ms: float = 0.0
    failed: int = 0


class Contender(NamedTuple):
    """A way to ask a server."""

    server: Server
    protocol: Protocol
    request: Prepared

    def measure(self, senders: int, seconds: float) -> Images:
        """Send for so long. The CPU time counts the warm-up's images too."""
        port = self.server.http_port if self.protocol == "http" else self.server.grpc_port
        before_s = self.server.cpu_s()
        load = measure(self.protocol, port, self.request, senders, seconds)
        cpu_s = self.server.cpu_s() - before_s
        images = load.statuses.get("200", 0)
        return Images(load.faultless_per_s, cpu_s / max(images, 1) * 1e3, load.p99_ms, load.failed)


def figures(bench: Bench) -> Iterator[Row]:
    """Yield rows for each number of senders."""
    with ExitStack() as stack:
        loop = stack.enter_context(BareLoop(bench.ssd))
        contenders = _open(bench, stack)
        for senders in SENDERS:
            seconds = bench.seconds(SECONDS)
            ways: dict[str, Callable[[], Images]] = {"bare": partial(_bare, loop, seconds)}
            for name, contender in contenders.items():
                ways[name] = partial(contender.measure, senders, seconds)
            yield from rows(f"SSD, {senders} sender(s)", in_turns(ways, bench.rounds(ROUNDS)))


def _open(bench: Bench, stack: ExitStack) -> dict[str, Contender]:
    """Start the servers; the first contender is the one that is judged."""
    ours, theirs, image = bench.folder / "ours", bench.folder / "theirs", image_values()
    stores.write_ssd(ours, bench.ssd)
    edgert = stack.enter_context(EdgertServer(bench.folder / "edgert", ours))
    given = stack.enter_context(Region(edgert, "images", image.nbytes, image))
    places = {
        name: (stack.enter_context(Region(edgert, name, size)).name, size)
        for name, size in OUTPUT_BYTES.items()
    }
    ask = partial(prepare, bench.folder, model="ssd", name="images", values=image)
    contenders = {
        "HTTP": Contender(edgert, "http", ask(protocol="http")),
        "gRPC": Contender(edgert, "grpc", ask(protocol="grpc")),
        "shared memory": Contender(edgert, "http", ask(protocol="http", region=given.name, outputs=places)),
    }
    if bench.triton and bench.triton.onnxruntime:
        stores.write_python_ssd(theirs, bench.ssd)
        triton = stack.enter_context(bench.triton.open(bench.folder / "triton", theirs))
        contenders["tritonserver"] = Contender(triton, "http", contenders["HTTP"].request)
    return contenders


def _bare(loop: BareLoop, seconds: float) -> Images:
    done = loop.run(seconds)
    return Images(done.per_s, done.cpu_s / done.runs * 1e3)


def rows(title: str, measured: dict[str, list[Images]]) -> Iterator[Row]:
    """Yield the rows of one number of senders; `measured` has `bare` and `HTTP` at least."""
    bare, data = measured["bare"], {name: [one._asdict() for one in of] for name, of in measured.items()}
    bare_rate, bare_ms = _rates(bare), _cpu_ms(bare)
    for name in ("HTTP", "gRPC", "shared memory", "tritonserver"):
        figure = f"{title}, {name}: images/s against the bare loop"
        if name not in measured:
            yield not_compared(figure)
            continue
        own = measured[name]
        ratio, cpu = ratio_of(_rates(own), bare_rate), ratio_of(_cpu_ms(own), bare_ms)
        more = f"{middle(_rates(own)):.1f} against {middle(bare_rate):.1f}/s{_failed(own)}"
        if name != "HTTP":
            yield told(figure, f"{ratio}; {more}; CPU {cpu}")
            continue
        yield at_least(figure, ratio, WANTED, more, data)
        more = f"{middle(_cpu_ms(own)):.1f} against {middle(bare_ms):.1f} ms"
        yield at_most(f"{title}, {name}: server's CPU an image against bare", cpu, CPU_WANTED, more, {})


def _rates(images: list[Images]) -> list[float]:
    return [one.per_s for one in images]


def _cpu_ms(images: list[Images]) -> list[float]:
    return [one.cpu_ms for one in images]


def _failed(images: list[Images]) -> str:
    failed = sum(one.failed for one in images)
    return f"; {failed} FAILED" if failed else ""

"""A model is loaded and unloaded over and over while another is asked all the time."""

from __future__ import annotations

from collections.abc import Iterator

from tests.bench.figures import Row
from tests.serve_bench import stores
from tests.serve_bench.bench import Bench
from tests.serve_bench.edgert_server import EdgertServer
from tests.serve_bench.good import GROWTH_LIMIT_MB, Witness, watched
from tests.serve_bench.load import Load, Prepared, sending
from tests.serve_bench.prepared import identity_values, prepare
from tests.serve_bench.server import Server

TIMES = 1000
WEIGHED_AT = 0.2  # of all times, and at the end
ABSENT = (404, 503)


def figures(bench: Bench) -> Iterator[Row]:
    """Yield the row."""
    store, times = bench.folder / "store", bench.times(TIMES)
    stores.write_identity(store)
    stores.write_identity(store, "flip")
    request = prepare(bench.folder, "http", "flip", "INPUT0", identity_values(), is_echoed=True)
    with EdgertServer(bench.folder / "edgert", store) as server, watched(bench, server) as witness:
        with sending("http", server.http_port, request, 1, [str(status) for status in ABSENT]) as flipped:
            wrong = _flip(server, witness, request, times)
            came = flipped.result()
        yield row(witness, witness.end(), came, wrong, times)


def _flip(server: Server, witness: Witness, request: Prepared, times: int) -> list[str]:
    """Unload and load; return what was not as it must be."""
    body = request.file.read_bytes().partition(b"\r\n\r\n")[2]
    wrong: list[str] = []
    for number in range(times):
        for verb, allowed in (("unload", ABSENT), ("load", (200,))):
            status, said = server.ask("POST", f"/v2/repository/models/flip/{verb}")
            if status != 200:
                wrong.append(f"{verb}: {status} {said.decode()}")
            status = _infer(server, body)
            if status not in allowed:
                wrong.append(f"{status} after {verb}")
        if number == int(times * WEIGHED_AT) or number == times - 1:
            witness.weigh()
    return wrong


def _infer(server: Server, body: bytes) -> int:
    json_bytes = body.rindex(b"}") + 1
    headers = {"Inference-Header-Content-Length": str(json_bytes)}
    return server.ask("POST", "/v2/models/flip/infer", body, headers)[0]


def row(witness: Witness, load: Load, came: Load, wrong: list[str], times: int) -> Row:
    """Return the row: `load` of what is served all the time, `came` of what comes and goes."""
    statuses = ", ".join(f"{count} {status}" for status, count in sorted(came.statuses.items()))
    value = f"{witness.told(load)}; {len(wrong)} wrong; the one that comes and goes: {statuses}"
    is_met = not (load.failed or came.failed or wrong) and load.answers > times and came.answers > 0
    data = {
        "good": load._asdict(),
        "flipped": came._asdict(),
        "wrong": wrong[:20],
        "grown_mb": witness.grown_mb,
    }
    is_met = is_met and witness.survived() and witness.grown_mb <= GROWTH_LIMIT_MB
    return Row(
        f"{times} times unload and load under traffic", value, f"0, {GROWTH_LIMIT_MB:.0f} MB", is_met, data
    )

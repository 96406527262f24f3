"""The tables at the demo's end, made of the statistics that the service published."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]
Row = tuple[str, ...]

_HEADER = (
    "source",
    "model",
    "frames in",
    "published",
    "frames/s",
    "p50 ms",
    "p99 ms",
    "max ms",
    "dropped",
)
_LEGEND = "ms: from capture to the finished result; dropped: frames without a result"
_DROPS_HEADER = ("source", "model", "dropped", "reason")
_COPIES_HEADER = ("source", "copies of pixels", "a frame", "kB a frame")


def make_table(stats: Json, ran_s: float) -> str:
    """Return a line for each source and model, reason of drops and kind of copies, then the process's."""
    sources = stats["sources"].items()
    rows = [_row(name, source, model, ran_s) for name, source in sources for model in source["models"]]
    copies = [row for name, source in sources for row in _copies(name, source)]
    copied = _aligned([_COPIES_HEADER, *copies]) if copies else "no pixels were copied"
    drops = [
        row for name, source in sources for model in source["models"] for row in _drops(name, source, model)
    ]
    dropped = [_aligned([_DROPS_HEADER, *drops])] if drops else []
    return "\n\n".join([f"{_aligned([_HEADER, *rows])}\n{_LEGEND}", *dropped, copied, _process(stats)])


def counted(count: int, noun: str) -> str:
    """Return e.g. `1 result` or `2 results`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _aligned(rows: list[Row]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


def _row(name: str, source: Json, model: str, ran_s: float) -> Row:
    link = source["models"][model]
    took = link["latency"]
    return (
        name,
        model,
        str(source["frames"]),
        str(link["published"]),
        f"{link['published'] / ran_s:.1f}",
        f"{took['p50_ms']:.1f}",
        f"{took['p99_ms']:.1f}",
        f"{took['max_ms']:.1f}",
        str(sum(_reasons(source, model).values())),
    )


def _reasons(source: Json, model: str) -> dict[str, int]:
    """Return how many frames were dropped or refused, by reason."""
    dropped = dict(source["models"][model]["dropped"])
    for reason, count in source["refused"].items():
        dropped[reason] = dropped.get(reason, 0) + count
    return dropped


def _drops(name: str, source: Json, model: str) -> list[Row]:
    return [(name, model, str(count), reason) for reason, count in _reasons(source, model).items()]


def _copies(name: str, source: Json) -> list[Row]:
    frames = source["frames"] or 1
    return [
        (name, kind, f"{copied['copies'] / frames:.2f}", f"{copied['bytes'] / frames / 1000:.0f}")
        for kind, copied in source["copies"].items()
        if copied["copies"]
    ]


def _process(stats: Json) -> str:
    by_cost = sorted(stats["stage_cpu_s"].items(), key=lambda item: -item[1])
    cpu = ", ".join(f"{stage} {seconds:.2f}" for stage, seconds in by_cost)
    pss_mib, buffers_mib = stats["pss_bytes"] / 2**20, stats["memory"]["peak_bytes"] / 2**20
    return (
        f"PSS {pss_mib:.0f} MiB, of it slots and tensors {buffers_mib:.1f} MiB\nCPU seconds by stage: {cpu}"
    )

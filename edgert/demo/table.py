"""The table at the demo's end, made of the statistics that the service published."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

_HEADER = (
    "source",
    "model",
    "frames in",
    "published",
    "dropped",
    "frames/s",
    "p50 ms",
    "p99 ms",
    "max ms",
    "copies/frame",
    "kB copied/frame",
)


def make_table(stats: Json, ran_s: float) -> str:
    """Return a line for each source and model, and one for the process."""
    rows: list[tuple[str, ...]] = [_HEADER]
    for name, source in stats["sources"].items():
        rows += [_row(name, source, model, link, ran_s) for model, link in source["models"].items()]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADER))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:], "", _process(stats)])


def _row(name: str, source: Json, model: str, link: Json, ran_s: float) -> tuple[str, ...]:
    frames = source["frames"] or 1
    kinds = {kind: copied for kind, copied in source["copies"].items() if copied["copies"]}
    copies = ", ".join(f"{kind} {copied['copies'] / frames:.2f}" for kind, copied in kinds.items()) or "0"
    kilobytes = ", ".join(f"{copied['bytes'] / frames / 1000:.0f}" for copied in kinds.values()) or "0"
    dropped = dict(link["dropped"])
    for reason, count in source["refused"].items():
        dropped[reason] = dropped.get(reason, 0) + count
    took = link["latency"]
    return (
        name,
        model,
        str(source["frames"]),
        str(link["published"]),
        ", ".join(f"{reason} {count}" for reason, count in dropped.items()) or "0",
        f"{link['published'] / ran_s:.1f}",
        f"{took['p50_ms']:.1f}",
        f"{took['p99_ms']:.1f}",
        f"{took['max_ms']:.1f}",
        copies,
        kilobytes,
    )


def _process(stats: Json) -> str:
    cpu = ", ".join(f"{stage} {seconds:.2f}" for stage, seconds in sorted(stats["stage_cpu_s"].items()))
    pss_mib, buffers_mib = stats["pss_bytes"] / 2**20, stats["memory"]["peak_bytes"] / 2**20
    return (
        f"PSS {pss_mib:.0f} MiB, of it slots and tensors {buffers_mib:.1f} MiB; CPU seconds by stage: {cpu}"
    )

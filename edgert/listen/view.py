"""What was watched, as lines of text."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from edgert.listen.counts import Instant, ResultCounts
from edgert.listen.layout import Cell, clip, number, printable, table
from edgert.listen.link import LinkState
from edgert.listen.payloads import Findings
from edgert.listen.subject import Subject
from edgert.listen.watch import Event, NodeWatch, ResultKey, State, Watch

GREEN, YELLOW, RED, DIM = "\x1b[32m", "\x1b[33m", "\x1b[31m", "\x1b[2m"
_STYLES = {
    "ready": GREEN,
    "online": GREEN,
    "lost": RED,
    "offline": RED,
    "unavailable": RED,
    "disconnected": DIM,
    "ended": DIM,
    "disabled": DIM,
}
NO_NODE = "no node was heard yet"
_NODE_HEADER = ("node", "part", "state", "since", "")
_NAMES_HEADER = ("node", "source/model")
_LIVE_HEADER = ("rate/s", "p50 ms", "p99 ms")
_SUMMARY_HEADER = ("results", "rate/s", "p50 ms", "p99 ms", "max ms")
_TOTALS_HEADER = ("miss", "dup", "late", "hist")
_TOTALS_WORDS = ("missing", "unheard", "duplicate", "late", "historical")
_NUMBERS = {*_LIVE_HEADER, *_SUMMARY_HEADER, *_TOTALS_HEADER}
_DAY_NS = 86_400 * 10**9


def live_lines(
    watch: Watch, link: LinkState, now: Instant, width: int, *, has_color: bool, notice: str = ""
) -> list[str]:
    """Return how things are now; `notice` explains why there is no node."""
    style = GREEN if link.is_connected else RED
    nodes, results = _node_rows(watch, now), _live_rows(watch, now)
    return [
        *table(
            [[Cell(clock(now.utc_ns, now)), Cell(printable(link.text), style)]], width, has_color=has_color
        ),
        "",
        *(table(nodes, width, has_color=has_color) if watch.nodes else [clip(notice or NO_NODE, width)]),
        "",
        *(table(results, width, has_color=has_color) if watch.results else ["no result was heard yet"]),
        "",
        *(clip(line, width) for line in trouble_lines(watch)),
    ]


def summary_lines(watch: Watch, elapsed_s: float, now: Instant, width: int, *, has_color: bool) -> list[str]:
    """Return what was heard in all."""
    return [
        f"listened for {elapsed_s:.1f} s: {watch.result_count} results",
        *(table(_node_rows(watch, now), width, has_color=has_color) if watch.nodes else ()),
        *(table(_summary_rows(watch, elapsed_s), width, has_color=has_color) if watch.results else ()),
        *(clip(line, width) for line in trouble_lines(watch)),
    ]


def result_line(key: ResultKey, counts: ResultCounts, now: Instant) -> str:
    """Return how one model does for one source, for a log."""
    live = counts.live(now)
    latency = "" if live.p50_ms is None else f", p50 {live.p50_ms:.1f} p99 {live.p99_ms:.1f} ms"
    totals = counts.totals
    figures = (
        totals.missing,
        totals.unheard,
        totals.duplicates,
        totals.out_of_order,
        totals.historical,
    )
    pairs = zip(figures, _TOTALS_WORDS, strict=True)
    told = "".join(f", {count} {word}" for count, word in pairs if count)
    name = printable(Subject("result", *key).name)
    seen = findings_text(counts.findings)
    rate = f"{live.rate_per_s:.1f}/s, {totals.results} results"
    return f"{clock(now.utc_ns, now)} {name}: {rate}{latency}{told}; {seen}"


def event_line(event: Event, now: Instant) -> str:
    """Return a state, birth or unreadable message, for a log."""
    words = {"birth": "was born with", "removed": "was removed", "malformed": "sent what cannot be read:"}
    text = f"{event.subject.name} {words.get(event.kind, 'is')} {event.text}"
    return f"{clock(now.utc_ns, now)} {printable(text.rstrip())}"


def findings_text(findings: Findings) -> str:
    """Return the labels with their counts, and the best score."""
    if findings.kind == "tensors":
        return f"{findings.total} tensors"
    if not findings.total:
        return f"no {findings.kind or 'live result'}"
    parts = (label if count == 1 else f"{count} {label}" for label, count in findings.counts)
    score = "" if findings.best_score is None else f" {findings.best_score:.2f}"
    return printable(", ".join(parts)) + score


def trouble_lines(watch: Watch) -> Iterator[str]:
    """Yield what went wrong so far, nothing if nothing did."""
    malformed = watch.malformed
    if malformed.count:
        last = printable(f"{malformed.last_topic}: {malformed.last_reason}")
        yield f"{malformed.count} messages could not be read; the last: {last}"
    if unheard := sum(counts.totals.unheard for counts in watch.results.values()):
        yield f"{unheard} numbers passed while we were not connected"
    if watch.forgotten:
        yield f"{watch.forgotten} silent ones were forgotten, for want of room"


def clock(utc_ns: int, now: Instant) -> str:
    """Return the local time, with its date if it is not of the last day."""
    form = "%H:%M:%S" if abs(now.utc_ns - utc_ns) < _DAY_NS else "%Y-%m-%d %H:%M"
    return time.strftime(form, time.localtime(utc_ns / 1e9))


def _node_rows(watch: Watch, now: Instant) -> list[Sequence[Cell]]:
    rows: list[Sequence[Cell]] = [[Cell(title) for title in _NODE_HEADER]]
    for name, node in sorted(watch.nodes.items()):
        rows.append(_state_row(name, "", node.state, now, _about(node)))
        rows += [_state_row("", f"source {key}", part, now) for key, part in sorted(node.sources.items())]
        rows += [_state_row("", f"model {key}", part, now) for key, part in sorted(node.models.items())]
    return rows


def _state_row(node: str, part: str, state: State | None, now: Instant, note: str = "") -> list[Cell]:
    if state is None:
        return [Cell(printable(node)), Cell(""), Cell("?"), Cell(""), Cell(printable(note))]
    since = f"{'before ' * state.was_found}{clock(state.since.utc_ns, now)}"
    versions = f"version {', '.join(map(str, state.versions))}" if state.versions else ""
    notes = printable(": ".join(filter(None, (note, versions, state.reason))))
    word = Cell(printable(state.word), _STYLES.get(state.word.lower(), YELLOW))
    return [Cell(printable(node)), Cell(printable(part)), word, Cell(since), Cell(notes)]


def _about(node: NodeWatch) -> str:
    if node.birth is None:
        return ""
    versions = [f"{name} {version}" for name, version in node.birth.versions.items()]
    restarts = [f"{node.restarts} restarts"] * bool(node.restarts)
    return ", ".join([*versions, f"boot {node.birth.boot}", *restarts])


def _live_rows(watch: Watch, now: Instant) -> list[Sequence[Cell]]:
    # What comes last finds no room first.
    titles = (*_NAMES_HEADER, *_LIVE_HEADER, "last", *_TOTALS_HEADER, "results")
    rows: list[Sequence[Cell]] = [[Cell(title, is_number=title in _NUMBERS) for title in titles]]
    for key, counts in sorted(watch.results.items()):
        live = counts.live(now)
        figures = [number(live.rate_per_s, 1), number(live.p50_ms, 1), number(live.p99_ms, 1)]
        last = Cell(findings_text(counts.findings))
        rows.append([*_names(key), *figures, last, *_total_cells(counts), number(counts.totals.results)])
    return rows


def _summary_rows(watch: Watch, elapsed_s: float) -> list[Sequence[Cell]]:
    titles = (*_NAMES_HEADER, *_SUMMARY_HEADER, *_TOTALS_HEADER)
    rows: list[Sequence[Cell]] = [[Cell(title, is_number=title in _NUMBERS) for title in titles]]
    for key, counts in sorted(watch.results.items()):
        latency = counts.latency()
        figures = [number(counts.totals.results), number(counts.totals.results / max(elapsed_s, 1e-3), 1)]
        spread = (latency.p50_ms, latency.p99_ms, latency.max_ms)
        times = [number(ms if latency.count else None, 1) for ms in spread]
        rows.append([*_names(key), *figures, *times, *_total_cells(counts)])
    return rows


def _names(key: ResultKey) -> list[Cell]:
    node, source, model = key
    return [Cell(printable(node)), Cell(printable(f"{source}/{model}"))]


def _total_cells(counts: ResultCounts) -> list[Cell]:
    totals = counts.totals
    wrong = YELLOW if totals.duplicates else ""
    cells = [number(totals.missing), number(totals.duplicates, style=wrong)]
    return [*cells, number(totals.out_of_order), number(totals.historical)]

"""What is heard as JSON, one object a line, for a program."""

from __future__ import annotations

import sys
from typing import Any, TextIO

import msgspec

from edgert.listen.counts import Instant, ResultCounts
from edgert.listen.link import LinkState
from edgert.listen.payloads import PayloadError, read_body
from edgert.listen.watch import Event, NodeWatch, ResultKey, Watch
from edgert.publish.session import Received


class JsonLines:
    """A Display. Objects are as they were published, with their `topic`; the last has a `summary`."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def open(self) -> None:
        """Nothing to do."""

    def link_changed(self, link: LinkState, now: Instant) -> None:
        """Write `connection`."""
        word = "connected" if link.is_connected else "lost"
        self._write({"connection": word, "message": link.text, "utc_ns": now.utc_ns})

    def notice(self, text: str) -> None:
        """Write it to standard error, which is no JSON."""
        sys.stderr.write(f"edgert: {text}\n")

    def heard(self, received: Received, event: Event, now: Instant) -> None:
        """Write the message."""
        try:
            self._write({**_body(received, event), "topic": received.topic})
        except (TypeError, ValueError, RecursionError) as error:  # MessagePack has what JSON has not
            self._write({"malformed": str(error), "topic": received.topic})

    def tick(self, watch: Watch, now: Instant) -> None:
        """Nothing to do: everything is written when it is heard."""

    def close(self) -> None:
        """Nothing to do."""

    def summarize(self, watch: Watch, elapsed_s: float, now: Instant) -> None:
        """Write `summary`."""
        summary = {
            "elapsed_s": round(elapsed_s, 3),
            "utc_ns": now.utc_ns,
            "count": watch.result_count,
            "malformed": watch.malformed.count,
            "forgotten": watch.forgotten,
            "nodes": [_node(name, node) for name, node in sorted(watch.nodes.items())],
            "results": [_counts(key, counts) for key, counts in sorted(watch.results.items())],
        }
        self._write({"summary": summary})

    def _write(self, body: dict[str, Any]) -> None:
        self._out.write(msgspec.json.encode(body).decode() + "\n")


def _body(received: Received, event: Event) -> dict[str, Any]:
    if event.kind == "malformed":
        return {"malformed": event.text}
    if event.kind == "removed":
        return {"removed": True}
    if event.subject.kind == "node":
        return {"state": event.text, "retained": received.is_retained}
    try:
        body = read_body(received.payload)
    except PayloadError as error:  # the rest of an object whose known parts are right
        return {"malformed": str(error)}
    return body if event.kind == "result" else {**body, "retained": received.is_retained}


def _node(name: str, node: NodeWatch) -> dict[str, Any]:
    return {
        "node": name,
        "state": node.state.word if node.state else None,
        "restarts": node.restarts,
        "sources": {source: state.word for source, state in node.sources.items()},
        "models": {model: state.word for model, state in node.models.items()},
    }


def _counts(key: ResultKey, counts: ResultCounts) -> dict[str, Any]:
    node, source, model = key
    totals: dict[str, int] = msgspec.structs.asdict(counts.totals)
    latency = counts.latency()
    times = {"p50_ms": latency.p50_ms, "p99_ms": latency.p99_ms, "max_ms": latency.max_ms}
    return {
        "node": node,
        "source": source,
        "model": model,
        **totals,
        "latency": times if latency.count else None,
    }

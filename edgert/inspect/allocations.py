"""Who holds memory in a running service, asked over HTTP."""

from __future__ import annotations

import http.client
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from edgert.device.allocations import AllocationReport
from edgert.device.memory import AllocationEvent
from edgert.errors import ConfigError
from edgert.exit_codes import ExitCode
from edgert.inspect.text import bytes_text, table_lines
from edgert.pipeline.file import PipelineFile
from edgert.pipeline.running import read_token, server_of
from edgert.serve.ask import Server, context_for, demand_no_tls
from edgert.serve.ask_arguments import Access

PATH = "/v1/allocations"
TIMEOUT_S = 10.0
DEFAULT_PORT = 8000
FILE_SUFFIX = ".toml"


def inspect_allocations(
    place: str, *, events: int = 20, as_json: bool = False, access: Access | None = None
) -> ExitCode:
    """Print who holds memory and the newest `events`, with their age. `place` is a URL or a pipeline file.

    Raises:
        ConfigError: nobody answers there, somebody else does, or one that wants to see more.
    """
    server = _server(place, access or Access())
    body = _get(server)
    try:
        report = msgspec.json.decode(body, type=AllocationReport)
    except msgspec.DecodeError as error:
        raise ConfigError(f"{server} does not answer as edgert does: {error}") from error
    lines = [msgspec.json.format(body).decode()] if as_json else allocation_lines(report, events)
    print("\n".join(lines))
    return ExitCode.OK


def allocation_lines(report: AllocationReport, events: int) -> list[str]:
    """Return a report as lines: totals, owners by what they hold, the newest events."""
    limit = f" of {bytes_text(report.limit_bytes)}" if report.limit_bytes else ""
    owners = sorted(report.owners.items(), key=lambda item: (-item[1].used_bytes, item[0]))
    rows = [
        (owner or "(unnamed)", bytes_text(usage.used_bytes), bytes_text(usage.peak_bytes), str(usage.count))
        for owner, usage in owners
    ]
    newest = report.events[max(0, len(report.events) - events) :]
    return [
        f"used {bytes_text(report.used_bytes)}{limit}, at most {bytes_text(report.peak_bytes)} so far",
        *table_lines(("owner", "used", "peak", "count"), rows),
        *_event_lines(newest, report.mono_ns),
    ]


def _event_lines(events: list[AllocationEvent], now_mono_ns: int) -> list[str]:
    if not events:
        return []
    rows = [
        (
            f"{(event.mono_ns - now_mono_ns) / 1e9:.3f} s",
            f"{'+' if event.size_bytes >= 0 else ''}{bytes_text(event.size_bytes)}",
            event.kind or "?",
            event.owner or "(unnamed)",
        )
        for event in events
    ]
    return ["", *table_lines(("when", "size", "kind", "owner"), rows)]


def _get(server: Server) -> bytes:
    hint = "Is `edgert run` running, with [http] in its file?"
    status, body = server.ask("GET", PATH, TIMEOUT_S, hint)
    if status != http.client.OK:
        raise ConfigError(f"{server} answered {status} to {PATH}; is it edgert, of this version?")
    return body


def _server(place: str, access: Access) -> Server:
    """Return what a URL, or a pipeline file, names. Raises ConfigError."""
    if place.endswith(FILE_SUFFIX):
        return server_of(PipelineFile.load(Path(place)), access)
    host, port, is_tls = _address(place)
    if not is_tls:
        demand_no_tls(access, place)
    token = read_token(access.token_file) if access.token_file else ""
    return Server(host, port, context_for(access) if is_tls else None, token)


def _address(url: str) -> tuple[str, int, bool]:
    """Return host, port and whether TLS is spoken; the port is 8000, as the pipeline file's, without one."""
    expected = "expected the service's URL, e.g. http://127.0.0.1:8000, or its pipeline file (.toml)"
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        port = parts.port or DEFAULT_PORT
    except ValueError as error:
        raise ConfigError(f"{url}: {error}; {expected}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"{url}: {expected}")
    return parts.hostname, port, parts.scheme == "https"

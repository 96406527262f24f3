"""Who holds memory in a running service, asked over HTTP."""

from __future__ import annotations

import http.client
from urllib.parse import urlsplit

import msgspec

from edgert.device.allocations import AllocationReport
from edgert.device.memory import AllocationEvent
from edgert.errors import ConfigError
from edgert.exit_codes import ExitCode
from edgert.inspect.text import bytes_text, table_lines

PATH = "/v1/allocations"
TIMEOUT_S = 10.0
DEFAULT_PORT = 8000


def inspect_allocations(url: str, *, events: int = 20, as_json: bool = False) -> ExitCode:
    """Print who holds memory and the newest `events`, with their age.

    Raises:
        ConfigError: nobody answers at this URL, or somebody else does.
    """
    body = _get(url)
    try:
        report = msgspec.json.decode(body, type=AllocationReport)
    except msgspec.DecodeError as error:
        raise ConfigError(f"{url} does not answer as edgert does: {error}") from error
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


def _get(url: str) -> bytes:
    connection = http.client.HTTPConnection(*_address(url), timeout=TIMEOUT_S)
    try:
        connection.request("GET", PATH)
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise ConfigError(
            f"No service answers at {url}: {error}. Is `edgert run` running, with [http] in its file?"
        ) from error
    finally:
        connection.close()
    if answer.status != http.client.OK:
        raise ConfigError(f"{url} answered {answer.status} to {PATH}; is it edgert, of this version?")
    return body


def _address(url: str) -> tuple[str, int]:
    """Return host and port; the port is 8000, as the pipeline file's, where none is given."""
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        port = parts.port or DEFAULT_PORT
    except ValueError as error:
        raise ConfigError(
            f"{url}: {error}; expected the service's URL, e.g. http://127.0.0.1:8000"
        ) from error
    if parts.scheme != "http" or not parts.hostname:
        raise ConfigError(f"{url}: expected the service's URL, e.g. http://127.0.0.1:8000")
    return parts.hostname, port

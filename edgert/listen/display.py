"""Where a person sees it: on a terminal, or as lines for a log."""

from __future__ import annotations

import shutil
import sys
from typing import Protocol, TextIO

from edgert.listen.counts import Instant
from edgert.listen.layout import printable
from edgert.listen.link import LinkState
from edgert.listen.view import clock, event_line, live_lines, result_line, summary_lines, trouble_lines
from edgert.listen.watch import Event, ResultKey, Watch
from edgert.publish.session import Received

REDRAW_S = 0.5
LINE_S = 1.0
SUMMARY_WIDTH = 200  # where no terminal says how wide it is
_ENTER = "\x1b[?1049h\x1b[?25l"  # the alternate screen, without a cursor
_LEAVE = "\x1b[?25h\x1b[?1049l"
_HOME, _END_OF_LINE, _BELOW = "\x1b[H", "\x1b[K", "\x1b[J"


class Display(Protocol):
    """Shows what is heard. `open` first, `close` last, in any case."""

    def open(self) -> None:
        """Begin."""

    def link_changed(self, link: LinkState, now: Instant) -> None:
        """The connection was made or lost."""

    def notice(self, text: str) -> None:
        """Something that a person should know came up."""

    def heard(self, received: Received, event: Event, now: Instant) -> None:
        """One message was counted."""

    def tick(self, watch: Watch, now: Instant) -> None:
        """Show what is due. Called several times a second."""

    def close(self) -> None:
        """Leave everything as it was."""

    def summarize(self, watch: Watch, elapsed_s: float, now: Instant) -> None:
        """Say what was heard in all, once closed."""


class Screen:
    """A terminal, redrawn in place on its alternate screen."""

    def __init__(self, out: TextIO, *, has_color: bool) -> None:
        self._out = out
        self._has_color = has_color
        self._link = LinkState(False, "connecting")
        self._notice = ""
        self._due_ns = 0
        self._is_open = False

    def open(self) -> None:
        """Take over the terminal."""
        self._is_open = True
        self._out.write(_ENTER)

    def link_changed(self, link: LinkState, now: Instant) -> None:
        """Show it at the next `tick`."""
        self._link = link
        self._due_ns = 0

    def notice(self, text: str) -> None:
        """Show it where the nodes would be, at the next `tick`."""
        self._notice = text
        self._due_ns = 0

    def heard(self, received: Received, event: Event, now: Instant) -> None:
        """Show a state at the next `tick`, all else when that is due."""
        if event.kind == "state" and event.is_news:
            self._due_ns = 0

    def tick(self, watch: Watch, now: Instant) -> None:
        """Redraw twice a second."""
        if now.mono_ns < self._due_ns:
            return
        self._due_ns = now.mono_ns + int(REDRAW_S * 1e9)
        width, height = shutil.get_terminal_size()
        lines = live_lines(watch, self._link, now, width - 1, has_color=self._has_color, notice=self._notice)
        if len(lines) >= height:
            lines = [*lines[: height - 2], f"... {len(lines) - height + 2} lines more"]
        text = "".join(f"{line}{_END_OF_LINE}\r\n" for line in lines)
        self._out.write(f"{_HOME}{text}{_BELOW}")

    def close(self) -> None:
        """Give the terminal back as it was."""
        if self._is_open:
            self._is_open = False
            self._out.write(_LEAVE)
            self._out.flush()

    def summarize(self, watch: Watch, elapsed_s: float, now: Instant) -> None:
        """Write the summary's table."""
        width = shutil.get_terminal_size().columns
        _write_lines(self._out, summary_lines(watch, elapsed_s, now, width - 1, has_color=self._has_color))


class Lines:
    """A line for each change, and one a second for each (node, source, model) with news."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._due_ns = 0
        self._told: dict[ResultKey, int] = {}
        self._trouble_told: list[str] = []

    def open(self) -> None:
        """Nothing to do."""

    def link_changed(self, link: LinkState, now: Instant) -> None:
        """Write it."""
        _write_lines(self._out, [f"{clock(now.utc_ns, now)} {printable(link.text)}"])

    def notice(self, text: str) -> None:
        """Write it to standard error."""
        sys.stderr.write(f"edgert: {text}\n")

    def heard(self, received: Received, event: Event, now: Instant) -> None:
        """Write a change."""
        if event.is_news and event.kind in ("state", "birth", "removed"):
            _write_lines(self._out, [event_line(event, now)])

    def tick(self, watch: Watch, now: Instant) -> None:
        """Write what has come in the last second."""
        if now.mono_ns < self._due_ns:
            return
        self._due_ns = now.mono_ns + int(LINE_S * 1e9)
        counts = {key: one.totals.results for key, one in sorted(watch.results.items())}
        fresh = [key for key, count in counts.items() if count != self._told.get(key)]
        self._told = counts
        _write_lines(self._out, [result_line(key, watch.results[key], now) for key in fresh])
        self._tell_trouble(watch, now)

    def close(self) -> None:
        """Nothing to do."""

    def summarize(self, watch: Watch, elapsed_s: float, now: Instant) -> None:
        """Write the summary's table."""
        _write_lines(self._out, summary_lines(watch, elapsed_s, now, SUMMARY_WIDTH, has_color=False))

    def _tell_trouble(self, watch: Watch, now: Instant) -> None:
        trouble = [*trouble_lines(watch)]
        if trouble != self._trouble_told:
            self._trouble_told = trouble
            _write_lines(self._out, [f"{clock(now.utc_ns, now)} {line}" for line in trouble])


def _write_lines(out: TextIO, lines: list[str]) -> None:
    out.writelines(f"{line}\n" for line in lines)

"""Keeps one source open: pauses between tries, notices silence, says how it stands."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable

from edgert.capture.options import SourceOptions
from edgert.capture.pace import Clock
from edgert.capture.source import Source
from edgert.capture.state import SourceState, SourceStats
from edgert.errors import EdgertError, EndOfSourceError, SourceError

log = logging.getLogger(__name__)


class Connection:
    """A source with its state. For the capture thread only; `stats` may be read by any.

    A camera that is silent for too long is closed and opened again. A source that may be idle (clips,
    request sockets) is online as soon as it is open and never stalls.
    """

    def __init__(
        self,
        name: str,
        source: Source,
        options: SourceOptions,
        *,
        clock: Clock,
        on_state: Callable[[SourceState, str], None] = lambda _state, _reason: None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.stats = SourceStats()
        self.is_open = False
        self._name = name
        self._source = source
        self._spec = options.spec()
        self._options = options
        self._clock = clock
        self._on_state = on_state
        self._jitter = jitter
        self._failures = 0  # since the last frame
        self._listening_ns = 0
        self._was_online = False
        self._is_warned = False

    def open(self) -> None:
        """Open the source. A SourceError is kept as the reason of state `offline`, not raised.

        Raises EndOfSourceError if the source has nothing to deliver.
        """
        try:
            self._source.open()
        except EndOfSourceError:
            raise
        except SourceError as error:
            self.lose(error)
            return
        self.is_open = True
        self.excuse_silence()
        if not self._spec.is_live:
            self.heard(0)

    def retry_s(self) -> float:
        """Return the pause before the next `open`: random, up to a limit that doubles and is capped."""
        if not self._failures:
            return 0.0
        low_s, cap_s = self._options.retry_min_s, self._options.retry_max_s
        high_s = min(cap_s, low_s * 2.0 ** min(self._failures, 64))
        return low_s + (high_s - low_s) * self._jitter()

    def heard(self, captured_mono_ns: int) -> None:
        """A frame came."""
        if captured_mono_ns:
            self.stats.last_frame_mono_ns = captured_mono_ns
        if self.stats.state != "online":
            self._recover()

    def excuse_silence(self) -> None:
        """Nobody listens just now, so that silence is no stall."""
        self._listening_ns = self._clock.monotonic_ns()

    def watch_silence(self) -> None:
        """No frame came just now: see whether that is a stall, and close a camera that has one."""
        limit_s = self._silence_limit_s()
        since_ns = max(self._listening_ns, self.stats.last_frame_mono_ns)
        if not limit_s or self._clock.monotonic_ns() - since_ns < limit_s * 1e9:
            return
        self._change("stalled", f"no frame for {limit_s:g} s")
        if self._spec.is_camera:
            self._failures += 1
            self.close()

    def lose(self, error: EdgertError) -> None:
        """The source broke: close it, to be opened again after `retry_s`."""
        self._failures += 1
        self.close()
        self._change("offline", str(error))

    def disable(self) -> None:
        """Close the source because somebody asked for it."""
        self.close()
        self._failures = 0
        self._change("disabled", "paused")

    def enable(self) -> None:
        """Let the source be opened again, without a pause."""
        self._change("connecting", "")

    def end(self, reason: str) -> None:
        """No frame will come any more. The source was closed before."""
        self._change("ended", reason)

    def close(self) -> None:
        """Close the source; its state stays."""
        self.is_open = False
        self._source.close()

    def _silence_limit_s(self) -> float:
        stall_s = self._options.stall_s
        if not self._spec.is_live or not stall_s:
            return 0.0
        is_starting = self._spec.is_camera and self.stats.last_frame_mono_ns < self._listening_ns
        return max(stall_s, self._options.open_timeout_s) if is_starting else stall_s

    def _recover(self) -> None:
        self.stats.reconnects += self._was_online and self._failures > 0
        self._was_online = True
        self._failures = 0
        self._change("online", "")
        self._is_warned = False

    def _change(self, state: SourceState, reason: str) -> None:
        """Set the state. An outage is warned of once; what else happens during it is for debugging."""
        if (state, reason) == (self.stats.state, self.stats.reason):
            return
        is_fault = state in ("stalled", "offline") or (state == "ended" and not self.stats.frames)
        level = logging.WARNING if is_fault and not self._is_warned else logging.INFO
        level = logging.DEBUG if is_fault and self._is_warned else level
        self._is_warned = self._is_warned or is_fault
        log.log(level, "source %s is %s%s", self._name, state, reason and f": {reason}")
        self.stats.state, self.stats.reason = state, reason
        self._on_state(state, reason)

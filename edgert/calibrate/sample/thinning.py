"""Which frames of a stream are looked at, and when enough were."""

from __future__ import annotations


class Thinning:
    """Takes each n-th frame, and of these at most so many in a second; ends by number or by time."""

    def __init__(self, every: int, frames_per_s: float, duration_s: float, max_frames: int) -> None:
        """0 means without that limit. The time begins with the first frame."""
        self._every = every
        self._interval_ns = round(1e9 / frames_per_s) if frames_per_s else 0
        self._duration_ns = round(duration_s * 1e9)
        self._max_frames = max_frames
        self._began_ns: int | None = None
        self._due_ns = 0
        self._taken = 0
        self.seen = 0  # frames, taken or not

    @property
    def may_want_next(self) -> bool:
        """The frame that comes next is taken if its time has come then."""
        return self.seen % self._every == 0

    def take(self, now_ns: int) -> bool:
        """Count a frame that came just now; say whether it is taken."""
        self._began_ns = now_ns if self._began_ns is None else self._began_ns
        is_taken = self.may_want_next and now_ns >= self._due_ns
        self.seen += 1
        if is_taken:
            self._taken += 1
            self._due_ns = now_ns + self._interval_ns
        return is_taken

    def is_over(self, now_ns: int) -> bool:
        """Say whether no more frames are to be taken."""
        if self._max_frames and self._taken >= self._max_frames:
            return True
        began_ns = self._began_ns
        return bool(self._duration_ns) and began_ns is not None and now_ns - began_ns >= self._duration_ns

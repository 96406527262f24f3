"""How many requests may be under way at once, over all fronts."""

from __future__ import annotations


class Gate:
    """Counts what is under way. Only the fronts' own thread calls."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.under_way = 0

    def enter(self) -> bool:
        """Count one more; False if that would be too many."""
        if self.under_way >= self.limit:
            return False
        self.under_way += 1
        return True

    def leave(self) -> None:
        """Count one less."""
        self.under_way -= 1

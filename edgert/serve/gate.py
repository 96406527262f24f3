"""How many requests may be under way at once, and how large, over all fronts."""

from __future__ import annotations

from edgert.serve.bodies import Bodies


class Gate:
    """Counts what is under way. Only the fronts' own thread calls."""

    def __init__(self, limit: int, bodies: Bodies | None = None) -> None:
        """`bodies` counts the requests' memory, which is had before they enter."""
        self.limit = limit
        self.bodies = bodies or Bodies()
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

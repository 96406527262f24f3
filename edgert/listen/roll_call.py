"""Says which nodes there are, if nothing is heard of the one that is listened for."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import Literal, Protocol

from edgert.listen.layout import printable
from edgert.listen.subject import parse_topic
from edgert.publish import topics
from edgert.publish.session import Received

PATIENCE_S = 5.0  # a node's retained state comes at once, if the node has ever been there
ANSWERS_S = 1.0  # and so do the other nodes' births
MOST_KEPT = 1000
MOST_TOLD = 10


class Filtered(Protocol):
    """What `link.Link` is, once open."""

    def pump(self, wake: int, timeout_s: float) -> list[Received]:
        """Return what has arrived within the time."""

    def add_filter(self, topic_filter: str) -> None:
        """Subscribe to this too."""

    def remove_filter(self, topic_filter: str) -> None:
        """Subscribe to this no more."""


class RollCall:
    """A link that looks once after the other nodes below `root`, if `node` is silent, and calls `tell`."""

    def __init__(
        self,
        link: Filtered,
        root: str,
        node: str,
        tell: Callable[[str], None],
        mono_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._link = link
        self._root = root
        self._node = node
        self._tell = tell
        self._mono_ns = mono_ns
        self._births = f"{root}/+/{topics.BIRTH}"
        self._others: set[str] = set()
        self._is_heard = False
        self._phase: Literal["waiting", "asking", "over"] = "waiting"
        self._due_ns = mono_ns() + int(PATIENCE_S * 1e9)

    def pump(self, wake: int, timeout_s: float) -> list[Received]:
        """Return what has arrived of the node within the time."""
        received = [one for one in self._link.pump(wake, timeout_s) if self._is_ours(one)]
        if self._phase != "over" and (self._is_heard or self._mono_ns() >= self._due_ns):
            self._go_on()
        return received

    def _is_ours(self, received: Received) -> bool:
        if received.topic.startswith(f"{self._root}/{self._node}/"):
            self._is_heard = True
            return True
        subject = parse_topic(self._root, received.topic)
        if subject is not None and received.payload and len(self._others) < MOST_KEPT:
            self._others.add(subject.node)
        return False

    def _go_on(self) -> None:
        if self._phase == "waiting" and not self._is_heard:
            self._phase = "asking"
            self._due_ns = self._mono_ns() + int(ANSWERS_S * 1e9)
            self._link.add_filter(self._births)
            return
        if self._phase == "asking":
            self._link.remove_filter(self._births)
            if not self._is_heard:
                self._tell(_absence(self._node, self._root, self._others))
        self._phase = "over"


def _absence(node: str, root: str, others: Collection[str]) -> str:
    names = [printable(name) for name in sorted(others)]
    more = f" and {len(names) - MOST_TOLD} more" if len(names) > MOST_TOLD else ""
    there = f"nodes seen there: {', '.join(names[:MOST_TOLD])}{more}"
    none = "no other node was seen there either; is it another broker, or another --root?"
    return f"nothing is heard of node {node!r} below {root}/; {there if names else none}"

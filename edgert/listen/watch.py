"""What the messages say so far: nodes, their sources and models, their results. No clock, no network."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Literal, TypeVar

import msgspec

from edgert.listen.counts import Instant, ResultCounts
from edgert.listen.payloads import (
    Birth,
    HeardPart,
    PayloadError,
    read_birth,
    read_part,
    read_result,
    read_state,
)
from edgert.listen.subject import Subject, parse_topic
from edgert.publish.session import Received

MOST = 1000  # nodes, parts of a node, and (node, source, model) each; then the longest silent is forgotten

V = TypeVar("V")
K = TypeVar("K")
ResultKey = tuple[str, str, str]  # node, source, model


class State(msgspec.Struct, frozen=True):
    """A state, and when it was heard."""

    word: str
    since: Instant
    was_found: bool  # it stood there already, so it is older than `since`
    reason: str = ""
    versions: tuple[int, ...] = ()  # of a model


class NodeWatch(msgspec.Struct):
    """One node. `restarts` counts births with another boot."""

    state: State | None = None
    birth: Birth | None = None
    restarts: int = 0
    sources: OrderedDict[str, State] = msgspec.field(default_factory=OrderedDict)
    models: OrderedDict[str, State] = msgspec.field(default_factory=OrderedDict)


class Malformed(msgspec.Struct):
    """Messages that could not be read."""

    count: int = 0
    last_topic: str = ""
    last_reason: str = ""


class Event(msgspec.Struct, frozen=True):
    """What one message was. `is_news` is false for a state that was known."""

    kind: Literal["result", "state", "birth", "removed", "malformed"]
    subject: Subject
    text: str = ""
    is_news: bool = True


class Watch:
    """Everything heard below `root`. Memory is bounded, however long it runs and whatever arrives."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._handlers = {
            "node": self._node_state,
            "birth": self._birth,
            "source": self._part_state,
            "model": self._part_state,
            "result": self._result,
        }
        self.nodes: OrderedDict[str, NodeWatch] = OrderedDict()
        self.results: OrderedDict[ResultKey, ResultCounts] = OrderedDict()
        self.malformed = Malformed()
        self.forgotten = 0  # to keep memory bounded
        self.result_count = 0

    def skip(self) -> None:
        """We were not connected: what is missing until the next of each is not the nodes' fault."""
        for counts in self.results.values():
            counts.skip()

    def feed(self, received: Received, now: Instant) -> Event | None:
        """Take in one message; None if it is about nothing that is watched. Never raises."""
        subject = parse_topic(self._root, received.topic)
        if subject is None:
            return None
        try:
            if not received.payload and subject.kind != "result":
                return self._removed(subject)
            return self._handlers[subject.kind](subject, received, now)
        except PayloadError as error:
            self.malformed.count += 1
            self.malformed.last_topic = received.topic
            self.malformed.last_reason = str(error)
            return Event("malformed", subject, str(error))

    def _result(self, subject: Subject, received: Received, now: Instant) -> Event:
        result = read_result(received.payload)
        self._node(subject)
        key = (subject.node, subject.source, subject.model)
        place = self._kept(self.results, key, lambda: ResultCounts(now)).add(result, now)
        self.result_count += 1
        return Event("result", subject, place)

    def _node_state(self, subject: Subject, received: Received, now: Instant) -> Event:
        state = State(read_state(received.payload), now, received.is_retained)
        node = self._node(subject)
        is_news = _is_news(node.state, state)
        if is_news:
            node.state = state
        return Event("state", subject, state.word, is_news)

    def _birth(self, subject: Subject, received: Received, now: Instant) -> Event:
        birth = read_birth(received.payload)
        node = self._node(subject)
        is_news = node.birth is None or node.birth.boot != birth.boot
        node.restarts += is_news and node.birth is not None
        node.birth = birth
        versions = ", ".join(f"{name} {version}" for name, version in birth.versions.items())
        return Event("birth", subject, versions, is_news)

    def _part_state(self, subject: Subject, received: Received, now: Instant) -> Event:
        part = read_part(received.payload)
        state = State(part.state, now, received.is_retained, part.reason, tuple(part.versions))
        parts, name = self._parts(subject)
        is_news = _is_news(parts.get(name), state)
        if is_news:
            self._kept(parts, name, lambda: state)
            parts[name] = state
        return Event("state", subject, _words(part), is_news)

    def _removed(self, subject: Subject) -> Event:
        """Forget what an empty retained message takes away."""
        node = self.nodes.get(subject.node)
        if node is not None and subject.kind == "node":
            node.state = None
        elif node is not None and subject.kind == "birth":
            node.birth = None
        elif node is not None:
            parts, name = self._parts(subject)
            parts.pop(name, None)
        return Event("removed", subject)

    def _node(self, subject: Subject) -> NodeWatch:
        return self._kept(self.nodes, subject.node, NodeWatch)

    def _parts(self, subject: Subject) -> tuple[OrderedDict[str, State], str]:
        node = self._node(subject)
        if subject.kind == "source":
            return node.sources, subject.source
        return node.models, subject.model

    def _kept(self, table: OrderedDict[K, V], key: K, make: Callable[[], V]) -> V:
        """Return the value of `key`, made if it is new, and forget the longest silent one of too many."""
        value = table.get(key)
        if value is None:
            value = table[key] = make()
        table.move_to_end(key)
        if len(table) > MOST:
            table.popitem(last=False)
            self.forgotten += 1
        return value


def _is_news(before: State | None, state: State) -> bool:
    if before is None:
        return True
    return (before.word, before.reason, before.versions) != (state.word, state.reason, state.versions)


def _words(part: HeardPart) -> str:
    return f"{part.state}: {part.reason}" if part.reason else part.state

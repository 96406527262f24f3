"""What a topic of the tree is about: the reverse of `publish.topics`."""

from __future__ import annotations

from typing import Literal

import msgspec

from edgert.publish import topics

Kind = Literal["node", "birth", "source", "model", "result"]


class Subject(msgspec.Struct, frozen=True):
    """Who a message is about; `source` and `model` are empty where the kind has none."""

    kind: Kind
    node: str
    source: str = ""
    model: str = ""

    @property
    def name(self) -> str:
        """The words that a person reads."""
        if self.kind in ("node", "birth"):
            return self.node
        if self.kind == "result":
            return f"{self.node} {self.source}/{self.model}"
        return f"{self.node} {self.kind} {self.source or self.model}"


def parse_topic(root: str, topic: str) -> Subject | None:
    """Return what the topic is about; None for one that is not listened for."""
    if not topic.startswith(f"{root}/"):
        return None
    match topic[len(root) + 1 :].split("/"):
        case [node, topics.STATE]:
            return Subject("node", node)
        case [node, topics.BIRTH]:
            return Subject("birth", node)
        case [node, "source", source, "state"]:
            return Subject("source", node, source=source)
        case [node, "model", model, "state"]:
            return Subject("model", node, model=model)
        case [node, "source", source, "result", model]:
            return Subject("result", node, source, model)
    return None


def topic_filters(root: str, node: str = "", source: str = "", model: str = "") -> list[str]:
    """Return what to subscribe to; an empty name stands for all."""
    prefix = f"{root}/{node or '+'}/"
    suffixes = (
        topics.STATE,
        topics.BIRTH,
        topics.source_state(source or "+"),
        topics.model_state(model or "+"),
        topics.result(source or "+", model or "+"),
    )
    return [prefix + suffix for suffix in suffixes]

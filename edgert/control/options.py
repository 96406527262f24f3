"""The `[control]` table of a pipeline file. Without it nothing is listened to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from msgspec import Meta

from edgert.config import Options
from edgert.control.verbs import VERBS, Subject

EVERYTHING = "*"


class ControlOptions(Options, frozen=True, kw_only=True):
    """Commands over MQTT. Whoever may publish below `cmd/` on the broker can give those allowed here."""

    sink: str = ""  # the MQTT sink whose broker is listened to; empty: the only one
    # "load" allows it for every model, "load:coco" for that one, "*" is everything; the rest is refused
    allow: tuple[str, ...]
    max_bytes: Annotated[int, Meta(ge=64, le=1_048_576)] = 4096  # of a command's payload
    per_minute: Annotated[int, Meta(ge=1, le=60_000)] = 60  # commands in all; a few may come at once

    def __post_init__(self) -> None:
        for entry in self.allow:
            verb, colon, name = entry.partition(":")
            if entry != EVERYTHING and verb not in VERBS:
                raise ValueError(f"allow: {entry!r} begins with no verb; verbs: {', '.join(VERBS)}")
            if colon and (not name or VERBS[verb].SUBJECT is None):
                raise ValueError(f"allow: {entry!r} is no verb, or a verb of models or sources, ':', and one")

    def allows_some(self, verb: str) -> bool:
        """Say whether the verb is allowed at least for something."""
        return any(entry == EVERYTHING or entry.partition(":")[0] == verb for entry in self.allow)

    def allows(self, verb: str, subject: str | None) -> bool:
        """Say whether the verb is allowed for this model or source; None: for all, or where there is none."""
        wanted = {EVERYTHING, verb}
        if subject is not None:
            wanted.add(f"{verb}:{subject}")
        return not wanted.isdisjoint(self.allow)

    def subjects(self) -> Iterator[tuple[str, Subject, str]]:
        """Yield (entry, "model" or "source", name) of the entries that name one."""
        for entry in self.allow:
            verb, colon, name = entry.partition(":")
            if colon and (subject := VERBS[verb].SUBJECT):
                yield entry, subject, name

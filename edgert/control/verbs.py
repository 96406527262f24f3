"""What a node can be told to do: for each verb of `cmd/<verb>`, its payload and what it does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Protocol

import msgspec
from msgspec import Meta

Name = Annotated[str, Meta(min_length=1, max_length=128)]
RequestId = Annotated[str, Meta(max_length=128)] | Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None
Fields = Mapping[str, Any]
Subject = Literal["model", "source"]


class Target(Protocol):
    """The node that is told. Calls come one at a time from one thread, and may take minutes.

    Only `drain` and `status` come from another thread, beside the others, and return at once.
    All but these two raise EdgertError if they cannot do it; then everything is as it was.
    """

    def load(self, model: str) -> None:
        """Load or reload a model, as the store and the pipeline file describe it now."""

    def unload(self, model: str) -> None:
        """Unload a model."""

    def reload_all(self) -> None:
        """Reload every model; one that fails keeps no other from it."""

    def pause(self, source: str) -> None:
        """Close a source until it is resumed."""

    def resume(self, source: str) -> None:
        """Open a source that was paused."""

    def snapshot(self, source: str) -> str:
        """Take a picture of a source; return the topic where it is published."""

    def set_score_min(self, model: str, score_min: float) -> None:
        """Let a model's results have scores from `score_min` on, until it is loaded again."""

    def drain(self) -> None:
        """Begin to stop: take no more frames, finish those taken, end."""

    def status(self) -> Fields:
        """Return what a ping is answered."""


class Command(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One command; its fields are the keys of the payload, its subject is what `allow` may restrict."""

    SUBJECT: ClassVar[Subject | None] = None
    WAITS: ClassVar[bool] = True  # for the commands before it

    id: RequestId = None  # the sender's; the answer has it too

    @property
    def subject(self) -> str | None:
        """The model or source that is named."""
        name: str | None = getattr(self, self.SUBJECT) if self.SUBJECT else None
        return name


class ModelCommand(Command, frozen=True, kw_only=True):
    """A command to one model."""

    SUBJECT = "model"
    model: Name


class SourceCommand(Command, frozen=True, kw_only=True):
    """A command to one source."""

    SUBJECT = "source"
    source: Name


class Load(ModelCommand, frozen=True, kw_only=True):
    """Load or reload a model."""

    def run(self, target: Target) -> Fields:
        """Return once frames go to it."""
        target.load(self.model)
        return {}


class Unload(ModelCommand, frozen=True, kw_only=True):
    """Unload a model."""

    def run(self, target: Target) -> Fields:
        """Return once it is freed."""
        target.unload(self.model)
        return {}


class Reload(Command, frozen=True, kw_only=True):
    """Reload one model, or all."""

    SUBJECT = "model"
    model: Name | None = None

    def run(self, target: Target) -> Fields:
        """Return once frames go to what was loaded."""
        if self.model is None:
            target.reload_all()
        else:
            target.load(self.model)
        return {}


class Threshold(ModelCommand, frozen=True, kw_only=True):
    """Change a model's `score_min` until it is loaded again."""

    score_min: Annotated[float, Meta(ge=0, le=1)]

    def run(self, target: Target) -> Fields:
        """Return once it holds for every frame decoded from now on."""
        target.set_score_min(self.model, self.score_min)
        return {}


class Pause(SourceCommand, frozen=True, kw_only=True):
    """Close a source."""

    def run(self, target: Target) -> Fields:
        """Return at once; the source's state says when it is closed."""
        target.pause(self.source)
        return {}


class Resume(SourceCommand, frozen=True, kw_only=True):
    """Open a source that was paused."""

    def run(self, target: Target) -> Fields:
        """Return at once; the source's state says when frames come."""
        target.resume(self.source)
        return {}


class Snapshot(SourceCommand, frozen=True, kw_only=True):
    """Publish a picture of a source."""

    def run(self, target: Target) -> Fields:
        """Return where the picture is published."""
        return {"topic": target.snapshot(self.source)}


class Drain(Command, frozen=True, kw_only=True):
    """Stop as SIGTERM does."""

    WAITS = False

    def run(self, target: Target) -> Fields:
        """Return before the node has stopped."""
        target.drain()
        return {}


class Ping(Command, frozen=True, kw_only=True):
    """Ask whether somebody is there."""

    WAITS = False

    def run(self, target: Target) -> Fields:
        """Return who is."""
        return target.status()


# `run` does it, and returns what the answer says beside the command's own fields. It raises EdgertError.
AnyCommand = Load | Unload | Reload | Threshold | Pause | Resume | Snapshot | Drain | Ping

VERBS: Mapping[str, type[AnyCommand]] = {
    "load": Load,
    "unload": Unload,
    "reload": Reload,
    "pause": Pause,
    "resume": Resume,
    "snapshot": Snapshot,
    "threshold": Threshold,
    "drain": Drain,
    "ping": Ping,
}

"""Requests as the queues of `schedule` see them."""

from __future__ import annotations

from edgert.errors import CancelledError, UnavailableError
from edgert.frames.request import SequenceStep
from edgert.models.model_config import RateLimit, Resource
from edgert.schedule.queued import Queued
from edgert.schedule.rate_limiter import LimitedGroup


class FakeRequest:
    """Known by its name; cancelled when the test says so."""

    def __init__(self, name="", sequence=None):
        self.name = name
        self.sequence = sequence
        self.is_cancelled = False


def make_queued(name="", *, sequence=None, **fields):
    """Return a request that has not been queued; `sequence` is an id with `<` for start and `>` for end."""
    return Queued(FakeRequest(name, step_of(sequence) if sequence is not None else None), **fields)


def step_of(text):
    """Return the step that e.g. `<7` (start), `7` or `7>` (end) says; digits are numbers."""
    plain = text.strip("<>")
    return SequenceStep(int(plain) if plain.isdigit() else plain, text.startswith("<"), text.endswith(">"))


def short(error):
    """Return one word for why a request was dropped."""
    if isinstance(error, CancelledError):
        return "cancelled"
    if isinstance(error, UnavailableError) and str(error) == "Request timeout expired":
        return "late"
    return str(error)


def make_group(name, *, device=0, priority=1, shared=(), **needs):
    """Return a group that needs e.g. `r1=4`; the resources in `shared` are global."""
    resources = tuple(
        Resource(name=need, count=count, is_global=need in shared) for need, count in needs.items()
    )
    return LimitedGroup(name, RateLimit(resources=resources, priority=priority), device)

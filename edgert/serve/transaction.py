"""Models that may answer a request any number of times, where a request has one answer."""

from __future__ import annotations

from edgert.errors import UnsupportedError
from edgert.serve.core import InferenceCore


def demand_one_answer(core: InferenceCore, model: str, version: int, refusal: str) -> None:
    """See that a model answers once, before anything begins.

    Raises:
        UnsupportedError: it is decoupled; `refusal` is what its client hears.
        UnknownModelError: it is not served.
    """
    if core.model_config(model, version).is_decoupled:
        raise UnsupportedError(refusal)

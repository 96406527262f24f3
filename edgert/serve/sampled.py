"""What summaries and histograms need of a version, where `[serve] metrics` asks for them."""

from __future__ import annotations

import msgspec

from edgert.serve.core import ModelStatistics

QUANTILES = (0.5, 0.9, 0.95, 0.99, 0.999)  # the Inference Server's


class HistogramCounts(msgspec.Struct, frozen=True):
    """How many values fell into each bucket."""

    bounds: tuple[int, ...]  # a bucket has what is not above its bound; one more has the rest
    counts: tuple[int, ...]  # not cumulative
    sum: float


class SampledStatistics(ModelStatistics):
    """Statistics with the newest durations, each at the `QUANTILES`. Clients do not see these."""

    quantiles_ns: dict[str, tuple[int, ...]] | None = None  # by field of InferStatistics; None: no summaries
    first_response_ms: HistogramCounts | None = None  # request to first response, of decoupled models

"""How large the values of one tensor are: a histogram that grows as they arrive, in bounded memory."""

from __future__ import annotations

import math

import msgspec
import numpy as np

from edgert.errors import ModelError
from edgert.frames.result import Array

BINS = 8192
BLOCK = 1 << 15  # values at once: the block and what is made of it stay in a core's cache
EXPONENT_MIN = -64  # below it bins get no finer: float32 must hold the factor from value to bin

_BIN_BITS = BINS.bit_length() - 1
_COUNT_TYPE = np.dtype("<i8")


class HistogramState(msgspec.Struct, frozen=True):
    """A histogram as a file holds it. `counts` are the used bins, little-endian int64."""

    exponent: int
    counts: bytes
    zeros: int
    not_finite: int
    low: float
    high: float


class Histogram:
    """Distribution of the magnitudes of one tensor's values. One thread at a time.

    Bin k counts the magnitudes in [k, k + 1) * `bin_width`, exact zeros apart. The range is the smallest
    power of two above all magnitudes; when one exceeds it, neighbouring bins are merged. Scaling by a power
    of two is exact, so neither the order nor the division of the values into calls changes anything.

    `counts` is (BINS,) int64. `zeros` and `count` are of finite values, `not_finite` of NaN and Inf;
    `low` and `high` are the least and the greatest finite value, signed, 0 before the first.
    """

    __slots__ = ("count", "counts", "exponent", "high", "low", "not_finite", "zeros")

    def __init__(self) -> None:
        self.counts: Array = np.zeros(BINS, np.int64)
        self.exponent = EXPONENT_MIN
        self.count = self.zeros = self.not_finite = 0
        self.low = self.high = 0.0

    @property
    def amax(self) -> float:
        """The greatest magnitude; 0 if nothing or only zeros were added."""
        return max(abs(self.low), abs(self.high))

    @property
    def bin_width(self) -> float:
        """How much magnitude one bin covers."""
        return math.ldexp(1.0, self.exponent - _BIN_BITS)

    @property
    def used(self) -> int:
        """How many bins reach up to the one that holds `amax`: more than half, unless values are tiny."""
        return int(self.amax / self.bin_width) + 1

    def edges(self) -> Array:
        """Return the (used + 1,) float64 bounds of the used bins. The last is `amax`, not the bin's end."""
        edges: Array = np.minimum(np.arange(self.used + 1.0), self.amax / self.bin_width)
        return edges * self.bin_width

    def add(self, values: Array) -> None:
        """Count values: float16, float32 or float64 of any shape and layout. Copies a block at a time.

        Raises:
            ModelError: the values are of another type.
        """
        dtype = values.dtype
        if dtype.kind != "f" or dtype.itemsize > 8:
            raise ModelError(
                f"Tensors of float16, float32 or float64 can be calibrated; this one is {dtype}."
            )
        block = min(BLOCK, values.size)
        working = np.promote_types(dtype, np.float32)
        scratch, bins = np.empty(block, working), np.empty(block, np.int32)
        flags = ["external_loop", "buffered", "zerosize_ok"]
        for part in np.nditer(values, flags, op_dtypes=[working], buffersize=BLOCK, order="K"):  # type: ignore[call-overload]
            self._add_block(part, scratch, bins)

    def _add_block(self, values: Array, scratch: Array, bins: Array) -> None:
        if not values.size:
            return
        low, high = float(values.min()), float(values.max())
        if math.isfinite(low) and math.isfinite(high):
            self._reach(low, high)
            self._count(values, scratch[: values.size], bins[: values.size])
        else:
            finite = values[np.isfinite(values)]
            self.not_finite += values.size - finite.size
            self._add_block(finite, scratch, bins)

    def _count(self, values: Array, magnitudes: Array, bins: Array) -> None:
        np.abs(values, out=magnitudes)
        zeros = int(np.count_nonzero(magnitudes == 0))
        magnitudes *= 1 / self.bin_width
        np.copyto(bins, magnitudes, casting="unsafe")  # rounds down
        counted = np.bincount(bins, minlength=BINS)
        counted[0] -= zeros
        self.counts += counted
        self.zeros += zeros
        self.count += values.size

    def _reach(self, low: float, high: float) -> None:
        """Take in new extremes of values that are about to be counted."""
        self.low = min(self.low, low) if self.count else low
        self.high = max(self.high, high) if self.count else high
        exponent = _exponent_of(self.amax)
        if exponent > self.exponent:
            merged = 1 << min(exponent - self.exponent, _BIN_BITS)
            sums = self.counts.reshape(-1, merged).sum(axis=1)
            self.counts[: len(sums)] = sums
            self.counts[len(sums) :] = 0
            self.exponent = exponent

    def state(self) -> HistogramState:
        """Return a copy that msgspec encodes; `from_state` goes on from it."""
        counts = self.counts[: self.used].astype(_COUNT_TYPE).tobytes()
        return HistogramState(self.exponent, counts, self.zeros, self.not_finite, self.low, self.high)

    @classmethod
    def from_state(cls, state: HistogramState) -> Histogram:
        """Return the histogram that `state` was taken of. Raises ModelError if it can be of none."""
        made = cls()
        made.low, made.high, made.exponent = state.low, state.high, state.exponent
        made.zeros, made.not_finite = state.zeros, state.not_finite
        if not (made._has_possible_range() and made._has_possible_counts(state.counts)):
            raise ModelError("A stored histogram contradicts itself; delete it and observe the model again.")
        made.counts[: made.used] = np.frombuffer(state.counts, _COUNT_TYPE)
        made.count = made.zeros + int(made.counts.sum())
        return made

    def _has_possible_range(self) -> bool:
        is_ordered = math.isfinite(self.amax) and self.low <= self.high
        return is_ordered and self.exponent == _exponent_of(self.amax)

    def _has_possible_counts(self, encoded: bytes) -> bool:
        if len(encoded) != self.used * _COUNT_TYPE.itemsize:
            return False
        counts = np.frombuffer(encoded, _COUNT_TYPE)
        is_any_negative = min(counts.min(), self.zeros, self.not_finite) < 0
        return not is_any_negative and bool(counts[-1]) == bool(self.amax)


def _exponent_of(amax: float) -> int:
    """Return the exponent of the least power of two above `amax`, EXPONENT_MIN at least."""
    return max(math.frexp(amax)[1], EXPONENT_MIN) if amax else EXPONENT_MIN

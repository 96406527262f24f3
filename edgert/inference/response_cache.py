"""Answers that were given before, for models whose configuration says response_cache."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict, defaultdict
from collections.abc import Mapping

import msgspec

from edgert.frames.request import InferRequest, InferResponse, Parameter
from edgert.frames.result import Array

ENTRY_BYTES = 512  # what an answer takes beside its tensors, roughly
_DIGEST_BYTES = 16


class CacheStatistics(msgspec.Struct, frozen=True):
    """What the cache holds and has done, in the terms of the metrics `nv_cache_*`."""

    entries: int = 0
    used_bytes: int = 0
    max_bytes: int = 0
    hits: int = 0
    misses: int = 0
    evictions: int = 0  # answers that went for want of room
    lookup_ns: int = 0  # in all, with the hash of the inputs
    insertion_ns: int = 0  # in all

    @property
    def lookups(self) -> int:
        """How often somebody looked."""
        return self.hits + self.misses


class CacheKey(msgspec.Struct, frozen=True):
    """Which answer, of which load of a version."""

    model: str
    version: int
    load: int
    digest: bytes


class Answer(msgspec.Struct, frozen=True, eq=False):
    """An answer that was kept. Its arrays are shared: nobody can write to them."""

    outputs: Mapping[str, Array]
    parameters: Mapping[str, Parameter]
    size_bytes: int


class Lookup(msgspec.Struct, frozen=True, eq=False):
    """What the cache has for a request; with `key` the answer is kept later where there is none."""

    key: CacheKey
    answer: Answer | None
    took_ns: int


class ResponseCache:
    """Keeps copies of answers, those that were asked for least recently go first. Any thread."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._used_bytes = 0
        self._answers: OrderedDict[CacheKey, Answer] = OrderedDict()
        self._keys: defaultdict[tuple[str, int], set[CacheKey]] = defaultdict(set)
        self._loads: dict[tuple[str, int], int] = {}
        self._hits = self._misses = self._evictions = self._lookup_ns = self._insertion_ns = 0
        self._lock = threading.Lock()

    def look_up(self, request: InferRequest, version: int) -> Lookup | None:
        """Return what is known of a request to a version; None for one of a sequence, which is never kept."""
        if request.sequence is not None:
            return None
        started_ns = time.perf_counter_ns()
        digest = digest_of(request)
        with self._lock:
            key = CacheKey(request.model, version, self._loads.get((request.model, version), 0), digest)
            answer = self._answers.get(key)
            if answer is not None:
                self._answers.move_to_end(key)
            self._hits += answer is not None
            self._misses += answer is None
            took_ns = time.perf_counter_ns() - started_ns
            self._lookup_ns += took_ns
        return Lookup(key, answer, took_ns)

    def keep(self, key: CacheKey, response: InferResponse) -> int:
        """Keep a copy of a response; return the nanoseconds that it took.

        Errors, what is not final or has no tensors (both of decoupled models), what is larger than the
        cache, and answers of a version that was forgotten since are not kept.
        """
        if response.error is not None or not response.is_final or not response.outputs:
            return 0
        started_ns = time.perf_counter_ns()
        size_bytes = ENTRY_BYTES + sum(map(_size_bytes, response.outputs.values()))
        if size_bytes <= self._max_bytes:
            outputs = {name: _copy(array) for name, array in response.outputs.items()}
            self._put(key, Answer(outputs, dict(response.parameters), size_bytes))
        took_ns = time.perf_counter_ns() - started_ns
        with self._lock:
            self._insertion_ns += took_ns
        return took_ns

    def forget(self, model: str, version: int) -> None:
        """Drop what a version has answered, and what it still answers to requests that it has taken.

        To be called when the version is unloaded, and when it is loaded again, after the new one serves.
        """
        with self._lock:
            self._loads[model, version] = self._loads.get((model, version), 0) + 1
            for key in self._keys.pop((model, version), ()):
                self._used_bytes -= self._answers.pop(key).size_bytes

    def statistics(self) -> CacheStatistics:
        """Return counts."""
        with self._lock:
            return CacheStatistics(
                len(self._answers),
                self._used_bytes,
                self._max_bytes,
                self._hits,
                self._misses,
                self._evictions,
                self._lookup_ns,
                self._insertion_ns,
            )

    def _put(self, key: CacheKey, answer: Answer) -> None:
        owner = key.model, key.version
        with self._lock:
            if key in self._answers or key.load != self._loads.get(owner, 0):
                return
            while self._used_bytes + answer.size_bytes > self._max_bytes:
                self._evict()
            self._answers[key] = answer
            self._keys[owner].add(key)
            self._used_bytes += answer.size_bytes

    def _evict(self) -> None:
        key, answer = self._answers.popitem(last=False)
        self._keys[key.model, key.version].discard(key)
        self._used_bytes -= answer.size_bytes
        self._evictions += 1


def digest_of(request: InferRequest) -> bytes:
    """Return a hash of all that an answer depends on: inputs, wanted outputs, parameters."""
    names = sorted(request.inputs)
    tensors = [(name, request.inputs[name].dtype.str, request.inputs[name].shape) for name in names]
    head = repr((request.outputs, sorted(request.parameters.items()), tensors)).encode(
        "utf-8", "surrogatepass"
    )
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    digest.update(len(head).to_bytes(8, "little") + head)
    for name in names:
        array = request.inputs[name]
        if array.dtype.hasobject:
            for text in array.flat:
                digest.update(len(text).to_bytes(8, "little") + text)
        else:
            digest.update(array.data if array.flags.c_contiguous else array.tobytes())
    return digest.digest()


def _size_bytes(array: Array) -> int:
    texts = sum(map(len, array.flat)) if array.dtype.hasobject else 0
    return array.nbytes + texts


def _copy(array: Array) -> Array:
    copied: Array = array.copy()
    copied.flags.writeable = False
    return copied

"""What the fronts (HTTP, gRPC, the first API) ask of whatever serves models, and in what words it answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from edgert.frames.request import InferRequest
from edgert.models.model_config import ModelConfig

# What the fronts speak of the Inference Server, but for what is switched on apart.
SERVER_EXTENSIONS = (
    "classification",
    "sequence",
    "model_repository",
    "model_repository(unload_dependents)",
    "schedule_policy",
    "model_configuration",
    "binary_tensor_data",
    "parameters",
    "statistics",
    "logging",
)


class TensorMetadata(msgspec.Struct, frozen=True):
    """A tensor as a client sees it."""

    name: str
    datatype: str  # FP32, ...
    shape: tuple[int, ...]  # -1 is variable; the batch axis included


class ModelMetadata(msgspec.Struct, frozen=True):
    """What a client has to know to send a request."""

    name: str
    versions: tuple[str, ...]
    platform: str
    inputs: tuple[TensorMetadata, ...]
    outputs: tuple[TensorMetadata, ...]


class Duration(msgspec.Struct):
    """How often something happened and how long it took in all."""

    count: int = 0
    ns: int = 0

    def add(self, ns: int, count: int = 1) -> None:
        """Count `count` more that took `ns` in all."""
        self.count += count
        self.ns += ns


class InferStatistics(msgspec.Struct):
    """Times summed over requests; each request of a batch has the whole time of its batch."""

    success: Duration = msgspec.field(default_factory=Duration)  # arrival to response
    fail: Duration = msgspec.field(default_factory=Duration)
    queue: Duration = msgspec.field(default_factory=Duration)
    compute_input: Duration = msgspec.field(default_factory=Duration)
    compute_infer: Duration = msgspec.field(default_factory=Duration)
    compute_output: Duration = msgspec.field(default_factory=Duration)
    cache_hit: Duration = msgspec.field(default_factory=Duration)
    cache_miss: Duration = msgspec.field(default_factory=Duration)


class BatchStatistics(msgspec.Struct):
    """Batches of one size."""

    batch_size: int
    compute_input: Duration = msgspec.field(default_factory=Duration)
    compute_infer: Duration = msgspec.field(default_factory=Duration)
    compute_output: Duration = msgspec.field(default_factory=Duration)


class ResponseStatistics(msgspec.Struct):
    """Responses of a decoupled model that came in the same place of their request."""

    compute_infer: Duration = msgspec.field(default_factory=Duration)
    compute_output: Duration = msgspec.field(default_factory=Duration)
    success: Duration = msgspec.field(default_factory=Duration)
    fail: Duration = msgspec.field(default_factory=Duration)
    empty_response: Duration = msgspec.field(default_factory=Duration)
    cancel: Duration = msgspec.field(default_factory=Duration)


class ModelStatistics(msgspec.Struct):
    """What one served version has done since it was loaded."""

    name: str
    version: str
    last_inference: int = 0  # ms since 1970; 0: none yet
    inference_count: int = 0  # a request of batch n counts n
    execution_count: int = 0  # batches
    inference_stats: InferStatistics = msgspec.field(default_factory=InferStatistics)
    batch_stats: list[BatchStatistics] = []
    response_stats: dict[str, ResponseStatistics] = {}
    failures: dict[str, int] = {}  # by reason: REJECTED, CANCELED, BACKEND, OTHER
    pending: int = 0  # requests that wait
    sequences: int = 0  # that are under way


class IndexEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """A version in the repository; a model that was never loaded has neither version nor state."""

    name: str
    version: str = ""
    state: str = ""  # READY, UNAVAILABLE, LOADING, UNLOADING
    reason: str = ""


class InferenceCore(Protocol):
    """Serves models. All calls return at once but `load` and `unload`, which may take minutes.

    Any thread may call. `version` 0 is the newest served one. What raises UnknownModelError raises
    UnavailableError for a model that is being loaded just now.
    """

    def is_ready(self) -> bool:
        """Say whether every model that should be there is, and nothing stops."""

    def is_model_ready(self, model: str, version: int = 0) -> bool:
        """Say whether it answers requests; False for an unknown one."""

    def model_metadata(self, model: str, version: int = 0) -> ModelMetadata:
        """Return what a client has to know. Raises UnknownModelError."""

    def model_config(self, model: str, version: int = 0) -> ModelConfig:
        """Return the whole configuration, completed from the engine. Raises UnknownModelError."""

    def labels(self, model: str, version: int, output: str) -> Sequence[str]:
        """Return the labels of an output, by class; empty if it has none. Raises UnknownModelError."""

    def statistics(self, model: str = "", version: int = 0) -> list[ModelStatistics]:
        """Return what served versions did; all of them without a name. Raises UnknownModelError."""

    def infer(self, request: InferRequest) -> None:
        """Begin an inference; the request's responder gets the rest, perhaps before this returns.

        Raises:
            RequestError: it is refused, and the responder will hear nothing.
        """

    def index(self, *, only_ready: bool = False) -> list[IndexEntry]:
        """Return what the repository has."""

    def load(
        self, model: str, config_json: str | None = None, files: Mapping[str, bytes] | None = None
    ) -> None:
        """Load a model, or load it again.

        `config_json` takes the place of its config.pbtxt, `files` (`1/model.onnx`: content) that of its
        folder, until it is loaded again.

        Raises:
            UnknownModelError, ModelError, UnsupportedError: it stays as it was.
        """

    def unload(self, model: str, *, with_dependents: bool = False) -> None:
        """Unload a model; `with_dependents` the models too that only its ensemble needs.

        Raises:
            UnknownModelError, UnsupportedError: nothing changes.
        """

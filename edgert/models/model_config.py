"""What a model's config.pbtxt says, as plain data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

# The Inference Server's own default-max-batch-size: for an engine with a variable batch axis and a
# configuration that does not say.
AUTO_MAX_BATCH_SIZE = 4

# NumPy has no bfloat16 of its own; the name is that of ml_dtypes.
DTYPE_OF_DATA_TYPE = {
    "TYPE_INVALID": "",
    "TYPE_BOOL": "bool",
    "TYPE_UINT8": "uint8",
    "TYPE_UINT16": "uint16",
    "TYPE_UINT32": "uint32",
    "TYPE_UINT64": "uint64",
    "TYPE_INT8": "int8",
    "TYPE_INT16": "int16",
    "TYPE_INT32": "int32",
    "TYPE_INT64": "int64",
    "TYPE_FP16": "float16",
    "TYPE_FP32": "float32",
    "TYPE_FP64": "float64",
    "TYPE_STRING": "object",
    "TYPE_BF16": "bfloat16",
}


class TensorConfig(msgspec.Struct, frozen=True, kw_only=True, rename={"dtype": "data_type"}):
    """One input or output. `dims` and `reshape` leave the batch axis out; -1 is variable."""

    name: str = ""
    dtype: str = ""  # NumPy's name; empty: not stated
    dims: tuple[int, ...] = ()  # what a caller sees; empty: not stated
    reshape: tuple[int, ...] | None = None  # what the engine sees; () for a scalar, None: as dims
    format: Literal["FORMAT_NONE", "FORMAT_NHWC", "FORMAT_NCHW"] = "FORMAT_NONE"  # inputs only
    is_shape_tensor: bool = False
    allow_ragged_batch: bool = False  # inputs only
    optional: bool = False  # inputs only
    is_non_linear_format_io: bool = False
    label_filename: str = ""  # outputs only; beside config.pbtxt

    @property
    def engine_dims(self) -> tuple[int, ...]:
        """The shape that the engine sees, without the batch axis."""
        return self.dims if self.reshape is None else self.reshape


class VersionPolicy(msgspec.Struct, frozen=True):
    """Which of the versions present are served."""

    kind: Literal["latest", "all", "specific"] = "latest"
    count: int = 1  # latest: how many, the highest numbers first
    versions: tuple[int, ...] = ()  # specific: these

    def choose(self, present: Sequence[int]) -> tuple[int, ...]:
        """Return what is served, ascending. A specific version is returned even if it is not present."""
        if self.kind == "specific":
            return tuple(sorted(set(self.versions)))
        return tuple(sorted(present)[-self.count :] if self.kind == "latest" else sorted(present))


class SecondaryDevice(msgspec.Struct, frozen=True):
    """A device beside the GPU that an instance needs, e.g. a DLA core."""

    kind: Literal["KIND_NVDLA"] = "KIND_NVDLA"
    device_id: int = 0


class Resource(msgspec.Struct, frozen=True, kw_only=True, rename={"is_global": "global"}):
    """What an instance takes of something that is scarce, as the operator names it."""

    name: str = ""
    count: int = 0
    is_global: bool = False  # shared by all devices, else each has its own


class RateLimit(msgspec.Struct, frozen=True, kw_only=True):
    """What each instance of a group needs to run, and how often it comes before others that wait."""

    resources: tuple[Resource, ...] = ()
    priority: int = 0  # an instance of priority 2 is taken half as often as one of 1; 0 is 1


class InstanceGroup(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    rename={"rate_limit": "rate_limiter", "is_passive": "passive"},
):
    """Lanes of one kind. `count` is for each GPU in `gpus`; without any, the first."""

    name: str = ""
    kind: Literal["KIND_AUTO", "KIND_GPU", "KIND_CPU", "KIND_MODEL"] = "KIND_AUTO"
    count: int = 1
    gpus: tuple[int, ...] = ()
    profile: tuple[str, ...] = ()  # TensorRT optimization profiles, as text
    secondary_devices: tuple[SecondaryDevice, ...] = ()
    rate_limit: RateLimit | None = None
    is_passive: bool = False  # loaded and never given work
    host_policy: str = ""


class QueuePolicy(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of requests that wait."""

    timeout_action: Literal["REJECT", "DELAY"] = "REJECT"  # DELAY: after all that are in time
    default_timeout_microseconds: int = 0  # 0: none
    allow_timeout_override: bool = False  # a request may ask for a shorter one
    max_queue_size: int = 0  # requests; 0: any number


class DynamicBatching(msgspec.Struct, frozen=True, kw_only=True):
    """How frames are gathered into batches. Priority 1 is the highest; 0 levels: no priorities."""

    preferred_batch_size: tuple[int, ...] = ()
    max_queue_delay_microseconds: int = 0
    preserve_ordering: bool = False
    priority_levels: int = 0
    default_priority_level: int = 0
    default_queue_policy: QueuePolicy = QueuePolicy()
    priority_queue_policy: dict[int, QueuePolicy] = {}  # by level, where it has one of its own


class Control(msgspec.Struct, frozen=True, kw_only=True, rename={"dtype": "data_type"}):
    """What an input tells the model of a request's sequence."""

    kind: Literal["START", "READY", "END", "CORRID"] = "START"
    dtype: str = ""  # int32, float32 or bool; of CORRID: what ids are handed over as
    false_true: tuple[float, float] = (0, 1)  # not of CORRID


class ControlInput(msgspec.Struct, frozen=True, kw_only=True, rename={"controls": "control"}):
    """An input of the model that clients do not send."""

    name: str = ""
    controls: tuple[Control, ...] = ()


class InitialState(msgspec.Struct, frozen=True, kw_only=True, rename={"dtype": "data_type"}):
    """The value of a state when a sequence starts."""

    name: str = ""
    dtype: str = ""
    dims: tuple[int, ...] = ()
    kind: Literal["zero", "file"] = "zero"
    file: str = ""  # in `initial_state` of the model's folder


class SequenceState(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    rename={
        "dtype": "data_type",
        "initial": "initial_state",
        "use_same_buffer": "use_same_buffer_for_input_output",
    },
):
    """An output that is the input of the same sequence's next request. `dims` has no batch axis."""

    input_name: str = ""
    output_name: str = ""
    dtype: str = ""
    dims: tuple[int, ...] = ()
    initial: InitialState | None = None  # None: zeros, variable sides 1
    use_same_buffer: bool = False
    use_growable_memory: bool = False


class SequenceBatching(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    rename={"controls": "control_input", "states": "state", "is_iterative": "iterative_sequence"},
):
    """How requests of sequences are given to instances: each sequence a slot, or the oldest together."""

    kind: Literal["direct", "oldest"] = "direct"
    max_sequence_idle_microseconds: int = 1_000_000
    max_queue_delay_microseconds: int = 0
    minimum_slot_utilization: float = 0.0  # direct
    max_candidate_sequences: int = 0  # oldest
    preferred_batch_size: tuple[int, ...] = ()  # oldest
    preserve_ordering: bool = False  # oldest
    controls: tuple[ControlInput, ...] = ()
    states: tuple[SequenceState, ...] = ()
    is_iterative: bool = False  # the model puts an unfinished request back into its queue


class EnsembleStep(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    rename={
        "model": "model_name",
        "version": "model_version",
        "inputs": "input_map",
        "outputs": "output_map",
        "namespace": "model_namespace",
    },
):
    """One model of an ensemble, and how its tensors are called there."""

    model: str = ""
    version: int = -1  # -1: the newest that is served
    inputs: dict[str, str] = {}  # the model's own name -> the ensemble's
    outputs: dict[str, str] = {}
    namespace: str = ""


class Ensemble(msgspec.Struct, frozen=True, rename={"steps": "step"}):
    """Models that hand tensors to each other, in any order."""

    steps: tuple[EnsembleStep, ...] = ()


class WarmupInput(msgspec.Struct, frozen=True, kw_only=True, rename={"dtype": "data_type"}):
    """What one input has in a request of the warmup. `dims` has no batch axis."""

    dtype: str = ""
    dims: tuple[int, ...] = ()
    kind: Literal["zero", "random", "file"] = "zero"
    file: str = ""  # in `warmup` of the model's folder


class Warmup(msgspec.Struct, frozen=True, kw_only=True):
    """Requests that an instance answers before it is ready."""

    name: str = ""
    batch_size: int = 1
    count: int = 1  # how often
    inputs: dict[str, WarmupInput] = {}


class ModelConfig(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    rename={
        "inputs": "input",
        "outputs": "output",
        "instance_groups": "instance_group",
        "ensemble": "ensemble_scheduling",
        "warmups": "model_warmup",
    },
):
    """One model. What the file does not say has the default here until `complete` derives it."""

    file: str = "config.pbtxt"  # where it was read, for messages
    name: str = ""
    platform: str = ""
    backend: str = ""
    max_batch_size: int | None = None  # None: not stated; 0: dims cover the whole shape
    inputs: tuple[TensorConfig, ...] = ()
    outputs: tuple[TensorConfig, ...] = ()
    version_policy: VersionPolicy = VersionPolicy()
    instance_groups: tuple[InstanceGroup, ...] = ()
    dynamic_batching: DynamicBatching | None = None  # None: frames are not gathered
    default_model_filename: str = ""  # in the version's folder
    cc_model_filenames: dict[str, str] = {}  # "8.7" -> file in the version's folder
    parameters: dict[str, str] = {}
    sequence_batching: SequenceBatching | None = None
    ensemble: Ensemble | None = None
    uses_response_cache: bool = False
    warmups: tuple[Warmup, ...] = ()
    is_decoupled: bool = False  # a request has none, one or many responses
    metric_tags: dict[str, str] = {}
    rest: bytes = b""  # fields that edgert does not follow, as protobuf writes them

"""What a model's config.pbtxt says, as plain data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

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


class TensorConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One input or output. `dims` and `reshape` leave the batch axis out; -1 is variable."""

    name: str = ""
    dtype: str = ""  # NumPy's name; empty: not stated
    dims: tuple[int, ...] = ()  # what a caller sees; empty: not stated
    reshape: tuple[int, ...] | None = None  # what the engine sees; () for a scalar, None: as dims
    format: Literal["FORMAT_NONE", "FORMAT_NHWC", "FORMAT_NCHW"] = "FORMAT_NONE"  # inputs only
    is_shape_tensor: bool = False
    allow_ragged_batch: bool = False  # inputs only
    optional: bool = False  # inputs only
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


class InstanceGroup(msgspec.Struct, frozen=True, kw_only=True):
    """Lanes of one kind. `count` is for each GPU in `gpus`; no GPU named means all."""

    name: str = ""
    kind: Literal["KIND_AUTO", "KIND_GPU", "KIND_CPU", "KIND_MODEL"] = "KIND_AUTO"
    count: int = 1
    gpus: tuple[int, ...] = ()
    profile: tuple[str, ...] = ()  # TensorRT optimization profiles, as text
    secondary_devices: tuple[SecondaryDevice, ...] = ()


class DynamicBatching(msgspec.Struct, frozen=True, kw_only=True):
    """How frames are gathered into batches. Priority 1 is the highest; 0 levels: no priorities."""

    preferred_batch_size: tuple[int, ...] = ()
    max_queue_delay_microseconds: int = 0
    preserve_ordering: bool = False
    priority_levels: int = 0
    default_priority_level: int = 0


class ModelConfig(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    rename={"inputs": "input", "outputs": "output", "instance_groups": "instance_group"},
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

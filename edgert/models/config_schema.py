"""The part of the Inference Server's model_config.proto that edgert honours, as a table.

Names and numbers are those of its package `inference`, so text and bytes are compatible with it.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from edgert.errors import ModelError

Label = Literal["one", "many", "map"]


class Field(msgspec.Struct, frozen=True):
    """One field of a message. `type` is a scalar, an enum or a message; a map's key is text."""

    number: int
    type: str
    label: Label = "one"

    @property
    def members(self) -> Fields | None:
        """The fields of the message it holds; None for a scalar."""
        if self.label == "map":
            return {"key": Field(1, "string"), "value": Field(2, self.type)}
        return MESSAGES.get(self.type)

    @property
    def expected(self) -> str:
        """What a value must be, in words."""
        if self.members is not None:
            return "a message in { }"
        return SCALARS.get(self.type) or f"one of {', '.join(ENUMS[self.type])}"


Fields = dict[str, Field]


def _many(number: int, kind: str) -> Field:
    return Field(number, kind, "many")


def _map(number: int, kind: str) -> Field:
    return Field(number, kind, "map")


SCALARS = {
    "string": "text in quotes",
    "bool": "true or false",
    "int32": "a whole number of 32 bits",
    "int64": "a whole number of 64 bits",
    "uint32": "a whole number of 32 bits, 0 or more",
    "uint64": "a whole number of 64 bits, 0 or more",
}

# A value's number is its place in the list.
ENUMS = {
    "DataType": (
        "TYPE_INVALID",
        "TYPE_BOOL",
        "TYPE_UINT8",
        "TYPE_UINT16",
        "TYPE_UINT32",
        "TYPE_UINT64",
        "TYPE_INT8",
        "TYPE_INT16",
        "TYPE_INT32",
        "TYPE_INT64",
        "TYPE_FP16",
        "TYPE_FP32",
        "TYPE_FP64",
        "TYPE_STRING",
        "TYPE_BF16",
    ),
    "Format": ("FORMAT_NONE", "FORMAT_NHWC", "FORMAT_NCHW"),
    "Kind": ("KIND_AUTO", "KIND_GPU", "KIND_CPU", "KIND_MODEL"),
    "SecondaryDeviceKind": ("KIND_NVDLA",),
}

MESSAGES: dict[str, Fields] = {
    "ModelConfig": {
        "name": Field(1, "string"),
        "platform": Field(2, "string"),
        "version_policy": Field(3, "ModelVersionPolicy"),
        "max_batch_size": Field(4, "int32"),
        "input": _many(5, "ModelInput"),
        "output": _many(6, "ModelOutput"),
        "instance_group": _many(7, "ModelInstanceGroup"),
        "default_model_filename": Field(8, "string"),
        "cc_model_filenames": _map(9, "string"),
        "dynamic_batching": Field(11, "ModelDynamicBatching"),
        "optimization": Field(12, "ModelOptimizationPolicy"),
        "parameters": _map(14, "ModelParameter"),
        "backend": Field(17, "string"),
    },
    "ModelInput": {
        "name": Field(1, "string"),
        "data_type": Field(2, "DataType"),
        "format": Field(3, "Format"),
        "dims": _many(4, "int64"),
        "reshape": Field(5, "ModelTensorReshape"),
        "is_shape_tensor": Field(6, "bool"),
        "allow_ragged_batch": Field(7, "bool"),
        "optional": Field(8, "bool"),
    },
    "ModelOutput": {
        "name": Field(1, "string"),
        "data_type": Field(2, "DataType"),
        "dims": _many(3, "int64"),
        "label_filename": Field(4, "string"),
        "reshape": Field(5, "ModelTensorReshape"),
        "is_shape_tensor": Field(6, "bool"),
    },
    "ModelTensorReshape": {"shape": _many(1, "int64")},
    "ModelVersionPolicy": {
        "latest": Field(1, "Latest"),
        "all": Field(2, "All"),
        "specific": Field(3, "Specific"),
    },
    "Latest": {"num_versions": Field(1, "uint32")},
    "All": {},
    "Specific": {"versions": _many(1, "int64")},
    "ModelInstanceGroup": {
        "name": Field(1, "string"),
        "count": Field(2, "int32"),
        "gpus": _many(3, "int32"),
        "kind": Field(4, "Kind"),
        "profile": _many(5, "string"),
        "secondary_devices": _many(8, "SecondaryDevice"),
    },
    "SecondaryDevice": {"kind": Field(1, "SecondaryDeviceKind"), "device_id": Field(2, "int64")},
    "ModelDynamicBatching": {
        "preferred_batch_size": _many(1, "int32"),
        "max_queue_delay_microseconds": Field(2, "uint64"),
        "preserve_ordering": Field(3, "bool"),
        "priority_levels": Field(4, "uint64"),
        "default_priority_level": Field(5, "uint64"),
    },
    # Nothing in it is honoured, but then the warning names what was asked for, e.g. optimization.cuda.
    "ModelOptimizationPolicy": {},
    "ModelParameter": {"string_value": Field(1, "string")},
}

# Messages of which only one field may be given.
CHOICES = {"ModelVersionPolicy": "policy_choice"}


def problem(where: str, path: str, what: str) -> ModelError:
    """Return the error for one field; `where` is `file:line`, or the file."""
    return ModelError(f"{where}: field {path}: {what}" if path else f"{where}: {what}")

"""What scalars and enums of a config.pbtxt may be."""

from __future__ import annotations

from typing import Any

from edgert.models.model_config import DTYPE_OF_DATA_TYPE

_DATA_TYPE_OF_DTYPE = {dtype: data_type for data_type, dtype in DTYPE_OF_DATA_TYPE.items()}

SCALARS = {
    "string": "text in quotes",
    "bool": "true or false",
    "float": "a number",
    "double": "a number",
    "int32": "a whole number of 32 bits",
    "int64": "a whole number of 64 bits",
    "uint32": "a whole number of 32 bits, 0 or more",
    "uint64": "a whole number of 64 bits, 0 or more",
}

# A value's number is its place in the list.
ENUMS = {
    "DataType": tuple(DTYPE_OF_DATA_TYPE),
    "Format": ("FORMAT_NONE", "FORMAT_NHWC", "FORMAT_NCHW"),
    "Kind": ("KIND_AUTO", "KIND_GPU", "KIND_CPU", "KIND_MODEL"),
    "SecondaryDeviceKind": ("KIND_NVDLA",),
    "BatchInputKind": (
        "BATCH_ELEMENT_COUNT",
        "BATCH_ACCUMULATED_ELEMENT_COUNT",
        "BATCH_ACCUMULATED_ELEMENT_COUNT_WITH_ZERO",
        "BATCH_MAX_ELEMENT_COUNT_AS_SHAPE",
        "BATCH_ITEM_SHAPE",
        "BATCH_ITEM_SHAPE_FLATTEN",
    ),
    "BatchOutputKind": ("BATCH_SCATTER_WITH_INPUT_SHAPE",),
    "ModelPriority": ("PRIORITY_DEFAULT", "PRIORITY_MAX", "PRIORITY_MIN"),
    "TimeoutAction": ("REJECT", "DELAY"),
    "ControlKind": (
        "CONTROL_SEQUENCE_START",
        "CONTROL_SEQUENCE_READY",
        "CONTROL_SEQUENCE_END",
        "CONTROL_SEQUENCE_CORRID",
    ),
}


def read_dtype(tree: dict[str, Any]) -> None:
    """Turn the data_type of a message's fields into NumPy's name; empty where it is not given."""
    tree["data_type"] = DTYPE_OF_DATA_TYPE[tree.get("data_type", "TYPE_INVALID")]


def write_dtype(tree: dict[str, Any]) -> None:
    """Turn NumPy's name into a data_type."""
    tree["data_type"] = _DATA_TYPE_OF_DTYPE[tree["data_type"]]

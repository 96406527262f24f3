"""Requests as clients write them."""

from __future__ import annotations

import time

import numpy as np
from tritonclient.grpc import InferInput, InferRequestedOutput, service_pb2

from edgert.serve.datatypes import DATATYPE_OF_DTYPE

WAIT_S = 5.0
SERVICE = "/inference.GRPCInferenceService/"


def tensor(name, array, datatype=None):
    """Return an input that holds an array."""
    given = InferInput(name, list(array.shape), datatype or DATATYPE_OF_DTYPE[str(array.dtype)])
    given.set_data_from_numpy(array)
    return given


def wanted(name, **options):
    """Return an output that a client asks for."""
    return InferRequestedOutput(name, **options)


def ones(rows=1):
    """Return an input for `identity` and its like."""
    return np.arange(rows * 16, dtype=np.float32).reshape(rows, 16)


def message(model="identity", array=None, *, name="INPUT0", **fields):
    """Return a ModelInferRequest with one raw input."""
    array = ones() if array is None else array
    request = service_pb2.ModelInferRequest(model_name=model, **fields)
    request.inputs.add(name=name, datatype=DATATYPE_OF_DTYPE[str(array.dtype)], shape=array.shape)
    request.raw_input_contents.append(array.tobytes())
    return request


def wait_until(condition):
    """Wait until a condition holds; it must within seconds."""
    deadline_s = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.002)

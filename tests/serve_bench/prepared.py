"""Requests as tritonclient makes them, prepared as bytes for the senders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tritonclient.grpc import service_pb2
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput

from tests.serve_bench.load import Prepared, Protocol
from tests.serve_bench.places import HOST

Array = np.ndarray
Places = dict[str, tuple[str, int]]  # outputs by name: region and bytes


def identity_values() -> Array:
    """Return what senders of the identity model send, (1, 16) float32."""
    return np.random.default_rng(7).random((1, 16), np.float32)


def image_values() -> Array:
    """Return an image as the detector takes it, (1, 3, 300, 300) float32 from -1 to 1."""
    return (np.random.default_rng(7).random((1, 3, 300, 300), np.float32) * 2 - 1).astype(np.float32)


def prepare(
    folder: Path,
    protocol: Protocol,
    model: str,
    name: str,
    values: Array,
    *,
    is_echoed: bool = False,
    region: str = "",
    outputs: Places | None = None,
) -> Prepared:
    """Write a request into `folder`. With a `region` the values are in that shared memory, not in it."""
    make = _http if protocol == "http" else _grpc
    file = folder / f"{protocol}-{model}{'-shared' if region else ''}.request"
    file.write_bytes(make(model, name, values, region, outputs or {}))
    return Prepared(file, values.tobytes() if is_echoed else b"")


def _http(model: str, name: str, values: Array, region: str, outputs: Places) -> bytes:
    given = InferInput(name, list(values.shape), "FP32")
    if region:
        given.set_shared_memory(region, values.nbytes)
    else:
        given.set_data_from_numpy(values)
    wanted = [InferRequestedOutput(output) for output in outputs]
    for output, place in zip(wanted, outputs.values(), strict=True):
        output.set_shared_memory(*place)
    body, json_bytes = InferenceServerClient.generate_request_body([given], outputs=wanted or None)
    lines = [f"POST /v2/models/{model}/infer HTTP/1.1", f"Host: {HOST}", f"Content-Length: {len(body)}"]
    if json_bytes is not None:
        lines.append(f"Inference-Header-Content-Length: {json_bytes}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def _grpc(model: str, name: str, values: Array, region: str, outputs: Places) -> bytes:
    request = service_pb2.ModelInferRequest(model_name=model)
    tensor = request.inputs.add(name=name, datatype="FP32", shape=values.shape)
    if region:
        _place(tensor, region, values.nbytes)
    else:
        request.raw_input_contents.append(values.tobytes())
    for output, place in outputs.items():
        _place(request.outputs.add(name=output), *place)
    return request.SerializeToString()


def _place(tensor, region: str, size: int) -> None:
    tensor.parameters["shared_memory_region"].string_param = region
    tensor.parameters["shared_memory_byte_size"].int64_param = size

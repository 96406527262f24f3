"""Calls about shared memory. That of CUDA is not offered: it has no regions, and takes none."""

from __future__ import annotations

from typing import Any

from edgert.errors import UnknownModelError, UnsupportedError
from edgert.serve.grpc.fill import fill
from edgert.serve.grpc.messages import INFERENCE_MESSAGES
from edgert.serve.shared_memory import SharedMemory


class RegionCalls:
    """Methods by their names in the Inference Server's service."""

    def __init__(self, shared_memory: SharedMemory | None) -> None:
        """`shared_memory` is None where it is off."""
        self._shared_memory = shared_memory

    def system_shared_memory_status(self, request: Any) -> Any:
        """Return the regions that are registered."""
        response = INFERENCE_MESSAGES["SystemSharedMemoryStatusResponse"]()
        for region in self._shared_memory.status(request.name) if self._shared_memory else ():
            fill(response.regions[region.name], region)
        return response

    def system_shared_memory_register(self, request: Any) -> Any:
        """Make a region known."""
        if self._shared_memory is None:
            raise UnsupportedError(
                "shared memory is off; set serve.shared_memory = true in the pipeline file"
            )
        self._shared_memory.register(request.name, request.key, request.offset, request.byte_size)
        return INFERENCE_MESSAGES["SystemSharedMemoryRegisterResponse"]()

    def system_shared_memory_unregister(self, request: Any) -> Any:
        """Forget one region or all."""
        if self._shared_memory is not None:
            self._shared_memory.unregister(request.name)
        return INFERENCE_MESSAGES["SystemSharedMemoryUnregisterResponse"]()

    def cuda_shared_memory_status(self, request: Any) -> Any:
        """Say that there are no regions."""
        if request.name:
            raise UnknownModelError(f"Unable to find cuda shared memory region: '{request.name}'")
        return INFERENCE_MESSAGES["CudaSharedMemoryStatusResponse"]()

    def cuda_shared_memory_register(self, request: Any) -> Any:
        """Refuse."""
        raise UnsupportedError(
            f"failed to register CUDA shared memory region '{request.name}': it is not offered"
        )

    def cuda_shared_memory_unregister(self, request: Any) -> Any:
        """Agree: clients unregister all before they begin."""
        return INFERENCE_MESSAGES["CudaSharedMemoryUnregisterResponse"]()

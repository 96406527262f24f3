"""One TensorRT execution context, for one profile of its engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgert.device.driver import Stream
from edgert.errors import ModelError
from edgert.execute.bindings import Shape, Shapes
from edgert.execute.engine import EngineInfo, ProfileRange
from edgert.execute.tensorrt_log import EngineLog


class TensorRTContext:
    """An EngineContext (see `runner`). One thread at a time, with the device current."""

    def __init__(
        self,
        context: Any,
        info: EngineInfo,
        profile: Mapping[str, ProfileRange],
        max_batch: int,
        log: EngineLog,
        owner: str,
        *,
        needs_scratch: bool,
    ) -> None:
        self._context = context
        self._info = info
        self._log = log
        self._owner = owner
        self._needs_scratch = needs_scratch  # at its largest, as the engine says
        self._ranges = [profile[spec.name] for spec in info.inputs]
        self._max_batch = max_batch if info.batches else 0
        self._shapes: Shapes | None = None
        self._outputs: dict[str, Shape] = {}
        self._addresses: Mapping[str, int] | None = None

    def covers(self, shapes: Shapes) -> bool:
        """Say whether the profile covers these shapes."""
        return all(
            len(shape) == len(own.minimum)
            and all(
                low <= side <= high for low, side, high in zip(own.minimum, shape, own.maximum, strict=True)
            )
            for shape, own in zip(shapes, self._ranges, strict=True)
        )

    def largest(self) -> Mapping[str, Shape]:
        """Return the largest shape of every tensor that this lane runs."""
        inputs = self._largest_inputs()
        names = [spec.name for spec in self._info.inputs]
        return {**dict(zip(names, inputs, strict=True)), **self.set_shapes(inputs)}

    def scratch_bytes(self, sizes: Sequence[int]) -> int:
        """Return the most that any of these batch sizes needs. Raises ModelError."""
        return max(self._scratch_bytes_of(size) for size in sizes or (0,))

    def set_scratch(self, address: int, size_bytes: int) -> None:
        """Use this scratch memory from now on."""
        self._context.set_device_memory(address, size_bytes)

    def set_shapes(self, shapes: Shapes) -> Mapping[str, Shape]:
        """Set the inputs' shapes and return the outputs'. Raises ModelError."""
        if shapes == self._shapes:
            return self._outputs
        self._shapes = None
        for spec, shape in zip(self._info.inputs, shapes, strict=True):
            if not self._context.set_input_shape(spec.name, shape):
                raise self._failure(f"refuses {spec.name} {list(shape)}")
        self._outputs = {
            spec.name: tuple(self._context.get_tensor_shape(spec.name)) for spec in self._info.outputs
        }
        for name, shape in self._outputs.items():
            if min(shape, default=0) < 0:
                raise ModelError(
                    f"{self._owner}: the size of output {name} {list(shape)} depends on the data. "
                    "Build it with a top-k instead: edgert build --top-k"
                )
        self._shapes = shapes
        return self._outputs

    def enqueue(self, tensors: Mapping[str, int], stream: Stream) -> None:
        """Run on tensors at these addresses. Raises ModelError."""
        if tensors is not self._addresses:
            self._addresses = None
            for name, address in tensors.items():
                if not self._context.set_tensor_address(name, address):
                    raise self._failure(f"refuses an address for {name}")
            self._addresses = tensors
        if not self._context.execute_async_v3(stream.handle):
            raise self._failure("did not run")

    def close(self) -> None:
        """Drop the context; TensorRT frees it with the last reference."""
        self._context = None
        self._addresses = None

    def _scratch_bytes_of(self, size: int) -> int:
        """Return what the largest sides need at a batch size; 0 stands for the engine's own."""
        largest = self._largest_inputs()
        shapes = tuple((size, *shape[1:]) for shape in largest) if size else largest
        if not self.covers(shapes):
            return 0
        self.set_shapes(shapes)
        needed = int(self._context.update_device_memory_size_for_shapes())
        if not needed and self._needs_scratch:
            raise self._failure(f"does not say what scratch memory {[list(shape) for shape in shapes]} needs")
        return needed

    def _largest_inputs(self) -> Shapes:
        largest = (own.maximum for own in self._ranges)
        return tuple(
            (min(self._max_batch or shape[0], shape[0]), *shape[1:]) if shape else shape for shape in largest
        )

    def _failure(self, what: str) -> ModelError:
        said = self._log.last() or "it does not say why"
        self._log.forget()  # the next failure is not explained by what was said of this one
        return ModelError(f"{self._owner}: TensorRT {what}: {said}")

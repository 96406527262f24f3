"""Runs one lane's execution contexts: chooses shapes, keeps scratch memory, captures graphs."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Protocol

from edgert.device.driver import Graph, Stream
from edgert.device.scratch import Scratch
from edgert.errors import DeviceError, DeviceLostError, ModelError
from edgert.execute.bindings import Binding, BindingCache, Fetched, Shape, Shapes
from edgert.execute.engine import EngineInfo

log = logging.getLogger(__name__)

MAX_KNOWN_SHAPES = 256  # a sender may choose a new one for every frame


class EngineContext(Protocol):
    """What a lane asks of a runtime: one engine's execution, for one batch at a time."""

    def covers(self, shapes: Shapes) -> bool:
        """Say whether inputs of these shapes can run."""

    def largest(self) -> Mapping[str, Shape]:
        """Return the largest shape of every tensor."""

    def scratch_bytes(self, sizes: Sequence[int]) -> int:
        """Return the scratch memory that suffices for batches of these sizes. Raises ModelError."""

    def set_scratch(self, address: int, size_bytes: int) -> None:
        """Use this scratch memory from now on."""

    def set_shapes(self, shapes: Shapes) -> Mapping[str, Shape]:
        """Prepare for inputs of these shapes; return the outputs' shapes. Raises ModelError."""

    def enqueue(self, tensors: Mapping[str, int], stream: Stream) -> None:
        """Run on the tensors at these addresses, by name. Raises ModelError."""

    def close(self) -> None:
        """Free the context. Nothing of it may be running."""


class Runner:
    """The contexts of one lane (one for each profile), which run on one stream."""

    def __init__(
        self,
        contexts: Sequence[EngineContext],
        info: EngineInfo,
        scratch: Scratch,
        sizes: Sequence[int],
        owner: str,
    ) -> None:
        """Take the sizes at which batches run, ascending; an engine of fixed batch has none.

        Raises:
            OutOfDeviceMemoryError: no room for scratch memory.
        """
        self.captured = self.launched = self.enqueued = 0  # graphs, their runs, runs without one
        self._contexts = contexts
        self._names = [spec.name for spec in info.inputs]
        self.sizes = tuple(sizes) if info.batches else ()
        self._scratch = scratch
        self._owner = owner
        self._known: dict[Shapes, tuple[EngineContext, Shapes]] = {}
        self._captures = True
        self._lease = scratch.join(max(context.scratch_bytes(self.sizes) for context in contexts))
        with ExitStack() as undo:
            undo.callback(scratch.leave, self._lease)
            self._set_scratch()
            undo.pop_all()

    def largest(self) -> dict[str, Shape]:
        """Return the largest shape of every tensor, over all contexts."""
        largest: dict[str, Shape] = {}
        for context in self._contexts:
            for name, shape in context.largest().items():
                largest[name] = tuple(map(max, shape, largest.get(name, shape)))
        return largest

    def bind(self, cache: BindingCache, wanted: Mapping[str, Shape]) -> Binding:
        """Return where the tensors of a batch of at least these shapes lie. Raises ModelError."""
        context, shapes = self._covering(tuple(map(wanted.__getitem__, self._names)))
        binding = cache.find(shapes)
        if binding is None:
            binding = cache.add(shapes, context.set_shapes(shapes), context)
        return binding

    def run(self, binding: Binding, stream: Stream, cache: BindingCache, fetched: Fetched = None) -> None:
        """Enqueue the engine and the copies of the outputs that are fetched. Raises ModelError, DeviceError.

        The first run at a shape that fetches these is followed by its capture; later ones launch the graph.
        """
        with self._scratch.use(stream):
            graph = cache.graph(binding.shapes, fetched)
            if graph is not None:
                stream.launch(graph)
                self.launched += 1
                return
            self._enqueue(binding, stream, fetched)
            self.enqueued += 1
            if self._captures and cache.keeps_graphs:
                self._capture(binding, stream, cache, fetched)

    def is_settled(self) -> bool:
        """Say whether the scratch memory is the newest; else `move` before the next run."""
        return self._scratch.is_current(self._lease)

    def move(self) -> None:
        """Go on with the newest scratch memory. The lane's work has finished and its graphs are dropped."""
        self._lease = self._scratch.move(self._lease)
        self._set_scratch()

    def close(self) -> None:
        """Free contexts and scratch memory."""
        for context in self._contexts:
            context.close()
        self._scratch.leave(self._lease)

    def _set_scratch(self) -> None:
        buffer = self._lease.buffer
        for context in self._contexts:
            context.set_scratch(buffer.address, buffer.size_bytes)

    def _enqueue(self, binding: Binding, stream: Stream, fetched: Fetched) -> None:
        binding.context.set_shapes(binding.shapes)
        binding.context.enqueue(binding.tensors, stream)
        binding.fetch(stream, fetched)

    def _capture(self, binding: Binding, stream: Stream, cache: BindingCache, fetched: Fetched) -> None:
        try:
            graph = self._captured(binding, stream, fetched)
        except DeviceLostError:
            raise
        except (DeviceError, ModelError) as error:
            self._captures = False
            log.warning("%s: cannot be captured as a graph, so it runs without: %s", self._owner, str(error))
            return
        cache.keep(binding.shapes, fetched, graph)
        self.captured += 1

    def _captured(self, binding: Binding, stream: Stream, fetched: Fetched) -> Graph:
        """Return the run as a graph; whatever happens, the stream works as before."""
        stream.begin_capture()
        try:
            self._enqueue(binding, stream, fetched)
        except BaseException:
            stream.end_capture().close()
            raise
        return stream.end_capture()

    def _covering(self, wanted: Shapes) -> tuple[EngineContext, Shapes]:
        known = self._known.get(wanted)
        if known is None:
            if len(self._known) >= MAX_KNOWN_SHAPES:
                self._known.clear()
            known = self._known[wanted] = self._find_covering(wanted)
        return known

    def _find_covering(self, wanted: Shapes) -> tuple[EngineContext, Shapes]:
        """Return the smallest batch that a profile covers; graphs are few, as batch sizes are few."""
        for shapes in self._candidates(wanted):
            for context in self._contexts:
                if context.covers(shapes):
                    return context, shapes
        listed = ", ".join(f"{name} {list(shape)}" for name, shape in zip(self._names, wanted, strict=True))
        raise ModelError(f"{self._owner}: no profile of the engine covers {listed}.")

    def _candidates(self, wanted: Shapes) -> list[Shapes]:
        """Return the shapes to try, the smallest first; none where the batch is larger than buffers are."""
        if not self.sizes:
            return [wanted]
        sizes = [size for size in self.sizes if size >= wanted[0][0]]
        return [tuple((size, *shape[1:]) for shape in wanted) for size in sizes]


def batch_sizes(max_batch: int) -> tuple[int, ...]:
    """Return the sizes at which batches run: 1, 2, 4, ... and `max_batch`."""
    sizes = {max_batch}
    size = 1
    while size < max_batch:
        sizes.add(size)
        size *= 2
    return tuple(sorted(sizes))

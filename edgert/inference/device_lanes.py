"""The lanes that one served version has on one device."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

import numpy as np

from edgert.errors import DeviceLostError, EdgertError, ModelError
from edgert.execute.engine import Completed, Engine, Lane, LaneOptions
from edgert.inference.feed import Feed
from edgert.inference.fill import Part, RequestFiller
from edgert.inference.request_port import RequestPort
from edgert.inference.sites import Site
from edgert.inference.warmup import run_alone
from edgert.models.model_config import ModelConfig
from edgert.models.tensor_spec import TensorSpec
from edgert.pipeline.loaded_model import Flights
from edgert.pipeline.warm_up import warm_up
from edgert.schedule.scheduler import BatchQueue
from edgert.serve.datatypes import host_dtype

OpenFiller = Callable[[Engine, Site], RequestFiller]


class DeviceLanes:
    """Owns an engine, its lanes, and the ports that the device's scheduler has to them."""

    def __init__(self, engine: Engine, site: Site, numbers: Sequence[int], title: str) -> None:
        """`numbers` are those of its lanes among all of the version, which messages call `title`."""
        self.engine = engine
        self.site = site
        self.numbers = numbers
        self.title = f"{title} on GPU {site.device.gpu}" if site.device.gpu else title
        self._lanes: dict[int, Lane] = {}
        self._fillers: dict[int, RequestFiller] = {}
        self._ports: list[RequestPort] = []
        self.look = site.scheduler.wake if engine.is_driven else site.scheduler.look_now

    @property
    def is_awaited(self) -> bool:
        """A lane would take a request now: whoever offers one calls `look`."""
        return any(port.batcher.is_awaited for port in self._ports)

    def open(self, config: ModelConfig, options: LaneOptions, open_filler: OpenFiller) -> None:
        """Open the lanes and run each once. Raises ModelError, OutOfDeviceMemoryError."""
        with told_of_gpu(self.site), self.site.device.driver.current():
            for number in self.numbers:
                filler = open_filler(self.engine, self.site)  # which holds nothing before it fills
                lane = self.engine.open_lane(config.max_batch_size or 1, self._lane_done, options)
                self._lanes[number], self._fillers[id(lane)] = lane, filler
                for rows in lane.batch_sizes() or (1,):
                    if (part := self._zeros(config, rows)) is not None:
                        warm_up(lane, self.title, partial(filler.fill, [part]))
            self.engine.warmed()

    def run_once(self, part: Part, hidden: Collection[str]) -> Iterator[Completed]:
        """Let every lane run a batch that nobody sent; `hidden` inputs that it lacks are zeros.

        To be called before `begin`. Raises EdgertError.
        """
        whole = self._whole(part, hidden)
        for lane in self._lanes.values():
            with told_of_gpu(self.site), self.site.device.driver.current():
                completed = run_alone(lane, partial(self._fillers[id(lane)].fill, [whole]), self.title)
            yield completed

    def add_port(self, feed: Feed, index: int, queue: BatchQueue, numbers: Sequence[int]) -> None:
        """Prepare to feed lanes from what they see of queue `index` of a feed."""
        lanes = [self._lanes[number] for number in numbers]
        port = _Port(feed, index, queue, lanes, self._fillers, is_driven=self.engine.is_driven)
        port.gpu = self.site.device.gpu
        self._ports.append(port)

    def begin(self) -> None:
        """Let the scheduler feed the lanes."""
        for port in self._ports:
            self.site.scheduler.add(port)

    def flights(self) -> Iterator[Flights]:
        """Yield what each lane that is fed has begun and ended."""
        for port in self._ports:
            yield from port.flights.values()

    def stop(self) -> None:
        """Let the scheduler forget the lanes. Nothing may wait or be in flight."""
        for port in self._ports:
            self.site.scheduler.remove(port)

    def close(self) -> None:
        """Close lanes and engine, after `stop`."""
        with ExitStack() as undo:
            undo.callback(self.engine.close)
            for lane in self._lanes.values():
                undo.callback(self._fillers[id(lane)].close)
                undo.callback(lane.close)
            self._lanes = {}

    def _lane_done(self) -> None:
        if not any(port.is_completing_here for port in self._ports):
            self.look()

    def _whole(self, part: Part, hidden: Collection[str]) -> Part:
        """Return a batch with all inputs. Raises ModelError for one that only a client can give."""
        info = self.engine.info
        lacking = [spec for spec in info.inputs if spec.name not in part.inputs]
        missing = [spec.name for spec in lacking if spec.name not in hidden]
        if missing and info.runtime != "python":  # that knows itself what it can do without
            raise ModelError(f"inputs: lacks {', '.join(missing)}")
        zeros = {
            spec.name: np.zeros(_least(spec, part.rows), host_dtype(spec.dtype))
            for spec in lacking
            if spec.name in hidden
        }
        return Part({**part.inputs, **zeros}, part.rows)

    def _zeros(self, config: ModelConfig, rows: int) -> Part | None:
        """Return inputs to warm up with; None where shapes are open, and for a model's own code.

        That may have effects outside, and need not understand zeros.
        """
        info = self.engine.info
        is_batched = bool(config.max_batch_size)
        stated = {tensor.name: tensor.engine_dims for tensor in config.inputs}
        shapes = {spec.name: stated.get(spec.name, spec.shape[is_batched:]) for spec in info.inputs}
        if info.runtime == "python" or any(-1 in shape for shape in shapes.values()):
            return None
        axis = (rows,) * is_batched
        zeros = {
            spec.name: np.zeros(axis + shapes[spec.name], host_dtype(spec.dtype)) for spec in info.inputs
        }
        return Part(zeros, rows)


class _Port(RequestPort):
    """Says which GPU was lost, if it is not the first."""

    gpu = 0

    def complete(self, lane: Lane, completed: Completed) -> None:
        """See RequestPort."""
        if self.gpu and isinstance(completed.error, DeviceLostError):
            completed.error = DeviceLostError(f"GPU {self.gpu}: {completed.error}")
        super().complete(lane, completed)


@contextmanager
def told_of_gpu(site: Site) -> Iterator[None]:
    """Name the GPU in an error, if it is not the first."""
    try:
        yield
    except EdgertError as error:
        if not (gpu := site.device.gpu):
            raise
        facts = site.device.driver.attributes()
        what = f"GPU {gpu} ({facts.get('name')}, compute {facts.get('compute_capability')})"
        raise type(error)(f"{what}: {error}") from error


def _least(spec: TensorSpec, rows: int) -> tuple[int, ...]:
    """Return the smallest shape of a tensor for so many rows."""
    first = (rows if spec.shape[0] == -1 else spec.shape[0],) if spec.shape else ()
    return (*first, *(max(side, 1) for side in spec.shape[1:]))

"""One frame from capture to publish. Read `admit`, then `_finish`: that is the whole line."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from queue import SimpleQueue

from edgert.errors import DeviceLostError, EdgertError, ModelError
from edgert.execute.engine import Completed, Lane
from edgert.frames.frame import Frame
from edgert.frames.result import Output, Result
from edgert.pipeline.fill import Batch
from edgert.pipeline.link import Link
from edgert.pipeline.loaded_model import LoadedModel
from edgert.pipeline.model_set import ModelSet
from edgert.publish.sink import Sink, Tap
from edgert.schedule.route import Route
from edgert.schedule.scheduler import Scheduler


class Pipeline:
    """Frames enter by `admit` on capture threads; results leave by `Sink.send` on the decode thread."""

    def __init__(
        self,
        links: Mapping[str, Sequence[Link]],
        sinks: Sequence[Sink],
        taps: Sequence[Tap] = (),
        current: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        """`current` makes the device current for the thread that submits."""
        self.scheduler = Scheduler(current=current)
        self.turns = 0  # of the decode thread; odd while it decodes and publishes
        self.failure: DeviceLostError | None = None  # nothing goes on after it
        self.on_lost: Callable[[DeviceLostError], None] = lambda _: None  # hears of it once
        self.models: ModelSet
        self._links = {source: {link.model: link for link in own} for source, own in links.items()}
        self._sinks = sinks
        self._taps = taps
        self._completed: SimpleQueue[tuple[LoadedModel, Lane, Completed] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._decode_all, name="decode", daemon=True)

    def start(self) -> None:
        """Start the threads that schedule and decode."""
        self._thread.start()
        self.scheduler.start()

    def attach(self, model: LoadedModel) -> None:
        """Let a model's completed batches come back here."""
        model.on_completed = lambda *completed: self._completed.put(completed)

    def admit(self, frame: Frame) -> None:
        """Commit a captured frame's slot and let it wait for the models that its source feeds.

        Raises:
            ModelError: the frame asks for a model that its source does not feed; the slot is still WRITING.
        """
        links = self._chosen_links(frame)
        now_ns = time.monotonic_ns()
        frame.taps = tuple(tap for tap in self._taps if tap.wants(frame.source, now_ns))
        frame.slot.commit(claims=len(links) * (1 + len(frame.taps)))
        for link in links:
            link.admitted += 1
            self._offer(link, frame, now_ns)

    def make_room(self, source: str) -> bool:
        """Drop the oldest frame of a source that still waits, so that a newer one finds a slot."""
        now_ns = time.monotonic_ns()
        dropped = [link.drop_oldest(now_ns) for link in self._links[source].values()]
        return any(dropped)

    def drop(self, route: Route, frame: Frame, reason: str) -> None:
        """Give up on a frame that waited."""
        frame.slot.release()
        self._refuse(self._links[route.source][route.model], frame, reason)

    def is_idle(self) -> bool:
        """No frame is between `admit` and the sinks."""
        return self.models.is_idle()

    def drain(self, timeout_s: float, wait: Callable[[float], None] = time.sleep) -> bool:
        """Wait until every admitted frame has left; after `timeout_s` drop those still waiting."""
        deadline = time.monotonic() + timeout_s
        for model in self.models.loaded():
            model.batcher.hurry()
        self.scheduler.wake()
        while not self.is_idle() and time.monotonic() < deadline:
            wait(0.005)
        is_drained = self.is_idle()
        for model in self.models.loaded():
            model.batcher.drop_all("draining")
        return is_drained

    def stop(self) -> None:
        """End the threads. The models must have been closed."""
        self.scheduler.stop()
        self._completed.put(None)
        if self._thread.ident is not None:
            self._thread.join()

    def _chosen_links(self, frame: Frame) -> list[Link]:
        own = self._links[frame.source]
        if frame.model is None and (frame.reply is None or len(own) == 1):
            return list(own.values())
        if frame.model in own:
            return [own[frame.model]]
        said = "none" if frame.model is None else repr(frame.model)
        raise ModelError(f"The request names model {said}; source {frame.source!r} feeds {', '.join(own)}.")

    def _offer(self, link: Link, frame: Frame, now_ns: int) -> None:
        """Offer to the model loaded now; one that was just replaced refuses, then the next is asked."""
        while (loaded := self.models.get(link.model)) is not None:
            if link.offer(frame, loaded, now_ns):
                if loaded.batcher.is_awaited:
                    self.scheduler.wake()
                return
        frame.slot.release()
        self._refuse(link, frame, "no_model")

    def _decode_all(self) -> None:
        while (item := self._completed.get()) is not None:
            self.turns += 1
            self._finish(*item)
            del item
            self.turns += 1

    def _finish(self, model: LoadedModel, lane: Lane, completed: Completed) -> None:
        """Decode a batch, give its buffers back, publish."""
        batch = completed.tag
        assert isinstance(batch, Batch)  # noqa: S101 - our own invariant
        if isinstance(completed.error, DeviceLostError) and self.failure is None:
            self.failure = completed.error
            self.on_lost(completed.error)
        outputs = model.decode(completed, batch)
        lane.release(completed.buffers)
        for route, frame, output in zip(batch.routes, batch.frames, outputs, strict=True):
            link = self._links[route.source][route.model]
            if isinstance(output, EdgertError):
                self._refuse(link, frame, output.status, output)
            else:
                self._publish(link, frame, model, output)
        model.finish()

    def _publish(self, link: Link, frame: Frame, model: LoadedModel, output: Output) -> None:
        result = Result(
            frame.source,
            frame.seq,
            model.name,
            model.version,
            frame.captured_utc_ns,
            frame.captured_mono_ns,
            frame.width,
            frame.height,
            output,
        )
        for sink in self._sinks:
            sink.send(result)
        if frame.reply is not None:
            frame.reply.answer(result)
        for tap in frame.taps:
            tap.offer(frame, result)
            frame.slot.release()
        link.published += 1
        link.latency.add(time.monotonic_ns() - frame.captured_mono_ns)

    def _refuse(self, link: Link, frame: Frame, reason: str, error: EdgertError | None = None) -> None:
        link.drop(frame, reason, error)
        for tap in frame.taps:
            tap.give_back(frame.source)
            frame.slot.release()

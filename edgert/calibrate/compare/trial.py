"""Runs FP32 and INT8 models side by side on prepared frames and compares what they say."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import msgspec
import onnx

from edgert.calibrate.ahead import ahead
from edgert.calibrate.compare.comparison import Answer, ComparisonFigures, HeldOutComparison
from edgert.calibrate.compare.host_models import HostModel, open_host_model
from edgert.calibrate.compare.labels import TrueBoxes
from edgert.decode.decoder import Decoder
from edgert.frames.placement import Placement
from edgert.frames.result import Array, Output

Truth = int | TrueBoxes | None
REFERENCE = ""  # the FP32 model's name among the timings


class TrialFrame(msgspec.Struct, frozen=True, eq=False):
    """One frame, prepared. `tensor` has no batch axis."""

    name: str
    tensor: Array
    placement: Placement


class Change(msgspec.Struct, frozen=True, eq=False):
    """What one candidate's answer to one frame differs in."""

    frame: TrialFrame
    difference: float
    reference: Output
    candidate: Output


class Trial:
    """Compares candidates with one reference."""

    def __init__(
        self,
        name: Path,
        reference: onnx.ModelProto,
        decoder: Decoder,
        score_min: float,
        at_once: int = 1,
    ) -> None:
        """`decoder` reads the outputs of all of them; errors call the models `name`.

        So many models run `at_once`, each on its part of the cores: that is faster, but their times are
        then not those that each would have alone. Times are of exact arithmetic, see `host_models`.
        """
        self._name = name
        self._reference = reference
        self._decoder = decoder
        self._score_min = score_min
        self._at_once = at_once
        self.run_ms: dict[str, list[float]] = {}  # of each frame, by candidate; REFERENCE is FP32

    def run(
        self,
        candidates: Mapping[str, onnx.ModelProto],
        frames: Iterable[TrialFrame],
        on_frame: Callable[[], None] = lambda: None,
        truth_of: Callable[[str], Truth] = lambda _frame: None,
        on_change: Callable[[Change], None] = lambda _change: None,
    ) -> dict[str, ComparisonFigures]:
        """Return the figures of each candidate over the frames, which are read once.

        `truth_of` tells what is in a frame; `on_change` hears of every frame and candidate.

        Raises:
            ModelError: a model cannot be run.
        """
        comparisons = {name: HeldOutComparison(self._score_min) for name in candidates}
        self.run_ms = {name: [] for name in (REFERENCE, *candidates)}
        threads = max(1, (os.cpu_count() or 1) // self._at_once)
        with ExitStack() as undo:
            opened = {
                name: undo.enter_context(open_host_model(self._name, proto, threads=threads))
                for name, proto in {REFERENCE: self._reference, **candidates}.items()
            }
            workers = undo.enter_context(ThreadPoolExecutor(self._at_once, "trial"))
            answered = ((frame, dict(self._answers(workers, opened, frame))) for frame in frames)
            is_timed = self._at_once == 1
            for frame, answers in answered if is_timed else undo.enter_context(ahead(answered)):
                for name, comparison in comparisons.items():
                    pair = answers[REFERENCE], answers[name]
                    difference = comparison.add(*pair, truth_of(frame.name))
                    on_change(Change(frame, difference, pair[0].decoded, pair[1].decoded))
                on_frame()
        return {name: comparison.figures() for name, comparison in comparisons.items()}

    def _answers(
        self, workers: Executor, models: Mapping[str, HostModel], frame: TrialFrame
    ) -> Iterator[tuple[str, Answer]]:
        for name, outputs in workers.map(partial(self._timed, frame.tensor), models.items()):
            yield name, Answer(outputs, self._decoder.decode(outputs, frame.placement))

    def _timed(self, tensor: Array, named: tuple[str, HostModel]) -> tuple[str, dict[str, Array]]:
        name, model = named
        started_s = time.perf_counter()
        outputs = model.run(tensor)
        self.run_ms[name].append((time.perf_counter() - started_s) * 1e3)
        return name, outputs

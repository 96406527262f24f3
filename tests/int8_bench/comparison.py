"""Quantizes one workload with every candidate and yields the rows of the table."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.bench.figures import Row
from tests.int8_bench.measured import Measured, QuantizationError, Task
from tests.int8_bench.peers import Candidate
from tests.int8_bench.session import Outputs, run_model, speed_ratio
from tests.int8_bench.workload import Calibration, Workload

OURS = "edgert"
RSS_LIMIT_GB = 1.0
RSS_LIMIT = f"<= {RSS_LIMIT_GB} GB"


class Comparison:
    """One workload's rows. Only edgert's rows have limits; a peer's are reported."""

    def __init__(self, workload: Workload, folder: Path) -> None:
        self._workload = workload
        self._folder = folder
        self._reference: Outputs = {}
        self._modelopt: list[Measured] = []

    def rows(self, candidates: Sequence[Candidate]) -> Iterator[Row]:
        """Yield what each candidate reaches; edgert should come last, to be held against the others."""
        workload = self._workload
        self._reference = run_model(workload.model, workload.held_out, workload.batch)
        for candidate in candidates:
            try:
                measured = self._quantize(candidate, workload.calibration, "")
            except (QuantizationError, NotImplementedError) as error:
                yield self._failed(self._figure(candidate), candidate, workload.limit, error)
                continue
            yield self._accuracy(candidate, measured)
            yield self._cost(candidate, measured)
            yield from self._limits(candidate, measured)
        yield from self._memory(candidates)

    def _quantize(self, candidate: Candidate, calibration: Calibration, suffix: str) -> Measured:
        """Quantize a copy of the model, as some quantizers write into what they are given."""
        folder = self._folder / f"{candidate.title.replace(', ', '-').replace(' ', '-')}{suffix}"
        folder.mkdir(parents=True)
        model = folder / "model.onnx"
        shutil.copyfile(self._workload.model, model)
        frames = min(calibration.frames, candidate.max_frames or calibration.frames)
        task = Task(
            self._workload.name,
            model,
            self._workload.prepare,
            calibration.pictures,
            calibration.tensors,
            frames,
        )
        return candidate.quantize(task, folder / "int8.onnx")

    def _accuracy(self, candidate: Candidate, measured: Measured) -> Row:
        workload = self._workload
        outputs = run_model(measured.model, workload.held_out, workload.batch)
        found = workload.score(self._reference, outputs)
        is_ours = candidate.family == OURS
        is_met = workload.is_met(found) if is_ours else True
        return Row(
            self._figure(candidate), workload.say(found), workload.limit if is_ours else "", is_met, found
        )

    def _cost(self, candidate: Candidate, measured: Measured) -> Row:
        """Report what one run took, the file's size, and the speed on the CPU."""
        speed = speed_ratio(measured.model, self._workload.model, self._workload.held_out[:1])
        data = {
            **measured._asdict(),
            "model": measured.model.name,
            "bytes": measured.model.stat().st_size,
            "speed": speed,
        }
        call = f" ({measured.call_s:.1f} in the call)" if measured.call_s else ""
        taken = (
            f"{measured.frames} frames: {measured.wall_s:.1f} s{call}, {measured.peak_rss_bytes / 1e9:.2f} GB"
        )
        value = f"{taken}; {data['bytes'] / 1e6:.2f} MB, {speed['ratio']:.2f} x FP32's speed"
        if candidate.family == "modelopt":
            self._modelopt.append(measured)
        return Row(f"{self._figure(candidate)}: cost", value, "", True, data)

    def _limits(self, candidate: Candidate, measured: Measured) -> Iterator[Row]:
        """Yield the limits on size and time that edgert alone is held to."""
        workload, figure = self._workload, self._figure(candidate)
        if candidate.family != OURS:
            return
        size_mb = measured.model.stat().st_size / 1e6
        if workload.size_limit_mb:
            limit = workload.size_limit_mb
            yield Row(
                f"{figure}: size", f"{size_mb:.2f} MB", f"<= {limit} MB", size_mb <= limit, {"mb": size_mb}
            )
        if workload.has_time_limit:
            yield self._time(f"{figure}: time", measured.wall_s)

    def _time(self, figure: str, wall_s: float) -> Row:
        """Hold the time against that of modelopt's faster method, both from start to end of a process."""
        if not self._modelopt:
            return Row(
                figure, f"{wall_s:.1f} s, not compared: modelopt made none", "", True, {"wall_s": wall_s}
            )
        limit_s = min(each.wall_s for each in self._modelopt)
        calls_s = [each.call_s for each in self._modelopt if each.call_s]
        beside = f" (modelopt's call alone: {min(calls_s):.1f} s)" if calls_s else ""
        modelopt_s = [each.wall_s for each in self._modelopt]
        data = {"wall_s": wall_s, "modelopt_s": modelopt_s, "modelopt_call_s": calls_s}
        return Row(figure, f"{wall_s:.1f} s{beside}", f"<= {limit_s:.1f} s", wall_s <= limit_s, data)

    def _memory(self, candidates: Sequence[Candidate]) -> Iterator[Row]:
        """Yield the peak memory over many frames of those whose memory does not grow with them."""
        many = self._workload.many_frames
        for candidate in candidates if many else []:
            if candidate.max_frames or candidate.title == "modelopt, entropy":
                continue
            try:
                measured = self._quantize(candidate, many, "-many")
            except (QuantizationError, NotImplementedError) as error:
                yield self._failed(f"{self._figure(candidate)}: memory", candidate, RSS_LIMIT, error)
                continue
            yield self._memory_row(candidate, measured)

    def _memory_row(self, candidate: Candidate, measured: Measured) -> Row:
        gigabytes, is_ours = measured.peak_rss_bytes / 1e9, candidate.family == OURS
        value = f"{gigabytes:.2f} GB at {measured.frames} frames, {measured.wall_s:.1f} s"
        limit, is_met = (RSS_LIMIT, gigabytes <= RSS_LIMIT_GB) if is_ours else ("", True)
        data = {"gb": gigabytes, "frames": measured.frames, "wall_s": measured.wall_s}
        return Row(f"{self._figure(candidate)}: memory", value, limit, is_met, data)

    def _failed(self, figure: str, candidate: Candidate, limit: str, error: Exception) -> Row:
        """A peer that fails is reported; edgert misses."""
        is_ours = candidate.family == OURS
        return Row(figure, f"failed: {error}", limit if is_ours else "", not is_ours, {"error": str(error)})

    def _figure(self, candidate: Candidate) -> str:
        return f"{self._workload.title}, {candidate.title}"

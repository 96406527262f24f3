"""What is counted, as one tree: published on MQTT, rendered for Prometheus, printed by the demo."""

from __future__ import annotations

import msgspec

from edgert.capture.state import SourceState
from edgert.device.memory import Budget
from edgert.frames.slots import RingStatistics
from edgert.pipeline.link import LinkStatistics
from edgert.pipeline.loaded_model import ModelStatistics
from edgert.publish.sink import SinkStats
from edgert.stats import CopyCounts


class CopyReport(msgspec.Struct, frozen=True):
    """Copies of one kind."""

    copies: int
    bytes: int


def copy_reports(counts: CopyCounts) -> dict[str, CopyReport]:
    """Return copies and their bytes by kind."""
    # A kind may be new among the copies just now, and not yet among the bytes.
    return {kind: CopyReport(copies, counts.bytes[kind]) for kind, copies in counts.copies.snapshot().items()}


class SourceReport(msgspec.Struct, frozen=True):
    """One source; `frames` = all of `refused` + those admitted to each of `models`."""

    state: SourceState
    reason: str
    frames: int
    refused: dict[str, int]
    lost: dict[str, int]  # `gap`: never arrived; `unsent_answer`: could not be returned
    reconnects: int
    last_frame_age_ms: float | None  # None: there was none yet
    slots: RingStatistics
    copies: dict[str, CopyReport]
    models: dict[str, LinkStatistics]


class ModelReport(msgspec.Struct, frozen=True):
    """One model with every version that is loaded."""

    state: str
    reason: str
    versions: list[ModelStatistics]


class MemoryReport(msgspec.Struct, frozen=True):
    """Slots, tensors and engines; `limit_bytes` 0 means none is set."""

    used_bytes: int
    peak_bytes: int
    limit_bytes: int
    owners: dict[str, int] = {}  # what each holds now
    pinned_bytes: int = 0  # of the host's memory


def memory_report(budget: Budget) -> MemoryReport:
    """Return what is held, and by whom; who holds nothing is left out."""
    owners = budget.by_owner().items()
    held = {name: usage.used_bytes for name, usage in owners if name and usage.used_bytes}
    return MemoryReport(budget.used_bytes, budget.peak_bytes, budget.limit_bytes, held, budget.pinned_bytes)


class Report(msgspec.Struct, frozen=True):
    """The whole process at one moment."""

    node: str
    boot: str
    uptime_s: float
    pss_bytes: int
    memory: MemoryReport
    stage_cpu_s: dict[str, float]
    sources: dict[str, SourceReport]
    models: dict[str, ModelReport]
    sinks: dict[str, SinkStats]
    tap_copies: dict[str, CopyReport]  # beside the line: of frames that a tap took
    device_copies: dict[str, CopyReport] = {}  # of frames to the device, of outputs from it
    commands: dict[str, int] = {}  # answered, by status

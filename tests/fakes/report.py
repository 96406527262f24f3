"""A report of a service that has done a little of everything."""

from __future__ import annotations

import msgspec

from edgert.frames.channel import ChannelStatistics
from edgert.frames.slots import RingStatistics
from edgert.pipeline.link import LinkStatistics
from edgert.pipeline.loaded_model import FrameTimes, ModelStatistics
from edgert.pipeline.report import CopyReport, MemoryReport, ModelReport, Report, SourceReport
from edgert.publish.sink import SinkStats
from edgert.stats import LatencySummary


def latency(count=4, sum_ms=10.0):
    return LatencySummary(count, 2.0, 3.0, 4.0, sum_ms)


def make_report(**changes):
    link = LinkStatistics(12, 9, {"stale": 2, "model_error": 1}, latency(9, 90.0))
    source = SourceReport(
        "online",
        "",
        14,
        {"frame_error": 2},
        {"gap": 3},
        1,
        5.0,
        RingStatistics(6, 1, 4, 1000),
        {"host_to_host": CopyReport(14, 14_000)},
        {"coco": link},
    )
    version = ModelStatistics(
        3, 4, 10, 1, 2, latency(10, 40.0), latency(), latency(), latency(), FrameTimes(1.0, 20.0, 3.0)
    )
    sink = SinkStats(8, 0, {"queue_full": 1}, ChannelStatistics(0, 3, 10, 1), 8, 0, True, latency())
    report = Report(
        "here",
        "boot",
        60.0,
        50_000_000,
        MemoryReport(1000, 2000, 0),
        {"schedule": 0.5},
        {"door": source},
        {"coco": ModelReport("READY", "", [version])},
        {"broker": sink},
        {"host_to_host": CopyReport(2, 2_000)},
    )
    return msgspec.to_builtins(msgspec.structs.replace(report, **changes))

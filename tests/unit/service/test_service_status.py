"""The line that `systemctl status` shows."""

from __future__ import annotations

import re

import pytest

from edgert.pipeline.overview import Overview
from edgert.pipeline.progress import Hang
from edgert.service.status import Rate, describe, describe_hangs
from edgert.service.where import innermost_calls

S = 1_000_000_000


def test_all_well_is_short():
    overview = Overview({"door": "online", "yard": "online"}, {"coco": "READY"}, 9, 0, 0)
    assert (
        describe(overview, 24.84)
        == "2 of 2 sources online, 1 of 1 models ready, 24.8 results/s, 0 frames dropped"
    )


def test_what_is_missing_is_named():
    overview = Overview({"door": "online", "yard": "offline"}, {"coco": "UNAVAILABLE"}, 9, 12, 3)
    assert describe(overview, 0.0) == (
        "1 of 2 sources online (yard offline), 0 of 1 models ready (coco unavailable), "
        "0.0 results/s, 12 frames dropped, 3 results lost"
    )


def test_hangs_are_told_with_how_long_and_since_when():
    said = describe_hangs([Hang("sink broker", 31.2), Hang("decoding", 8.0)], lambda: 1_700_000_000.0)
    assert re.fullmatch(
        r"sink broker hangs for 31 s, since \d\d:\d\d:48, decoding hangs for 8 s, since \d\d:\d\d:12", said
    )
    assert describe_hangs([]) == ""


def test_a_rate_is_of_the_time_since_it_was_last_counted():
    rate = Rate()
    assert rate.of(100, 0) == 0.0
    assert rate.of(150, 5 * S) == pytest.approx(10.0)
    assert rate.of(160, 5 * S + S // 10) == pytest.approx(10.0)  # too soon to say
    assert rate.of(210, 7 * S) == pytest.approx(30.0)
    assert rate.of(3, 8 * S) == 0.0  # another line
    assert rate.of(13, 9 * S) == pytest.approx(10.0)


def test_every_thread_is_found_at_its_innermost_call():
    assert re.search(r"MainThread at edgert/service/where\.py:\d+ \(innermost_calls\)", innermost_calls())

"""What the kinds of memory cost, timed over any Driver."""

from __future__ import annotations

from itertools import count

import pytest

from edgert.device.host import HostDriver
from edgert.device.measure import WARM_UPS, Measured, MemoryTiming, measure_memory
from edgert.device.memory import MemoryKind
from edgert.device.placement import plan_memory
from edgert.errors import DeviceError, DeviceLostError, OutOfDeviceMemoryError
from tests.fakes.boards import attributes_of
from tests.fakes.gpu import FakeGpu

FRAME = 1_000_000


def clock():
    """Return a clock on which each look takes 50 µs, so that each frame is written at 20 GB/s."""
    ticks = count(0, 50_000)
    return lambda: next(ticks)


def measure(driver, **options):
    plan = plan_memory(driver.attributes())
    return measure_memory(driver, plan, frame_bytes=FRAME, repetitions=4, clock_ns=clock(), **options)


def by_choice(measured):
    return {timing.choice: timing for timing in measured.timings}


def timing(choice, frame_ms, *, is_chosen=False):
    return MemoryTiming(choice, MemoryKind.MAPPED, 0.0, 0.0, frame_ms, is_chosen)


def test_the_host_has_one_row_and_it_is_the_choice():
    measured = measure_memory(HostDriver(), plan_memory(HostDriver().attributes()), repetitions=2)
    [row] = measured.timings
    assert (row.choice, row.kind, row.is_chosen) == ("pageable", MemoryKind.PAGEABLE, True)
    assert row.host_write_gb_s > 0
    assert row.device_read_gb_s > 0
    assert 0 < row.frame_ms < 1000
    assert set(measured.refused) == {"mapped", "registered", "managed", "staged"}
    assert measured.better() is None


def test_rates_and_time_are_those_of_the_clocks():
    gpu = FakeGpu(attributes_of("orin"), {MemoryKind.MAPPED: 10})
    row = by_choice(measure(gpu))["mapped"]
    assert row == MemoryTiming("mapped", MemoryKind.MAPPED, 20.0, 10.0, 0.15, True)


def test_staged_frames_pay_for_the_copy_and_for_being_read_again():
    gpu = FakeGpu(attributes_of("h200"), {MemoryKind.PINNED: 50, MemoryKind.DEVICE: 200})
    row = by_choice(measure(gpu))["staged"]
    assert row.frame_ms == pytest.approx(0.05 + 0.02 + 0.005)
    assert row.device_read_gb_s == pytest.approx(1 / 0.025)
    rounds = WARM_UPS + 4
    assert gpu.copied.count((MemoryKind.PINNED, MemoryKind.DEVICE)) == rounds
    assert gpu.copied.count((MemoryKind.DEVICE, MemoryKind.DEVICE)) == rounds


def test_every_kind_that_the_device_has_is_timed_and_the_others_say_why_not():
    gpu = FakeGpu(attributes_of("h200"))
    measured = measure(gpu)
    assert set(by_choice(measured)) == {"mapped", "registered", "managed", "staged"}
    assert [row.choice for row in measured.timings if row.is_chosen] == ["staged"]
    assert list(measured.refused) == ["pageable"]
    assert measured.refused["pageable"].startswith("PAGEABLE_MEMORY_ACCESS is 0")
    assert MemoryKind.PAGEABLE not in gpu.asked
    assert set(by_choice(measure(FakeGpu(attributes_of("thor"))))) == {
        "mapped",
        "registered",
        "managed",
        "pageable",
        "staged",
    }


def test_managed_memory_is_timed_where_it_could_not_serve():
    assert "managed" in by_choice(measure(FakeGpu(attributes_of("orin"))))
    assert "managed" in measure(FakeGpu(attributes_of("drive-orin-qnx"))).refused


def test_a_kind_that_the_driver_refuses_is_no_end_for_the_others():
    failure = OutOfDeviceMemoryError("no pinned memory left")
    measured = measure(FakeGpu(attributes_of("h200"), failures={MemoryKind.MANAGED: failure}))
    assert measured.refused["managed"] == "no pinned memory left"
    assert "staged" in by_choice(measured)


def test_a_lost_device_ends_it_and_everything_is_freed():
    gpu = FakeGpu(attributes_of("h200"), failures={MemoryKind.DEVICE: DeviceLostError("gone")})
    with pytest.raises(DeviceLostError):
        measure(gpu)
    assert gpu.budget.used_bytes == 0


def test_all_memory_is_counted_for_doctor_and_given_back():
    gpu = FakeGpu(attributes_of("h200"))
    measure(gpu)
    [(owner, usage)] = gpu.budget.by_owner().items()
    assert (owner, usage.used_bytes, usage.count) == ("doctor", 0, 0)
    assert usage.peak_bytes == 3 * FRAME


@pytest.mark.parametrize(
    ("mapped_ms", "better"), [(0.5, "mapped"), (0.89, "mapped"), (0.95, None), (1.0, None), (3.0, None)]
)
def test_only_what_is_clearly_faster_is_better(mapped_ms, better):
    found = Measured((timing("mapped", mapped_ms), timing("staged", 1.0, is_chosen=True)), {}).better()
    assert (found and found.choice) == better


def test_the_fastest_is_better_where_the_chosen_could_not_be_timed():
    rows = (timing("managed", 2.0), timing("mapped", 1.0))
    assert Measured(rows, {"staged": "no"}).better().choice == "mapped"
    assert Measured((), {"staged": "no"}).better() is None


def test_the_driver_s_refusal_of_all_leaves_no_row():
    everything = {kind: DeviceError("nothing works") for kind in MemoryKind}
    measured = measure(FakeGpu(attributes_of("h200"), failures=everything))
    assert measured.timings == ()
    assert set(measured.refused) == {"mapped", "registered", "managed", "staged", "pageable"}

"""What a machine says of itself. Boards are trees of files: surface-tested only."""

from __future__ import annotations

import shutil
import sys

import pytest

from edgert.device.gauges.files import read_number
from edgert.device.gauges.gauge import HELP
from edgert.device.gauges.gauges import Gauges, describe_gauges
from edgert.device.gauges.host import HostMeter
from edgert.device.gauges.jetson import GpuLoadMeter, NvMapMeter
from edgert.device.gauges.sensors import RailMeter, TemperatureMeter
from edgert.stats import LiveCount
from tests.fakes import sysfs
from tests.fakes.nvml import FakeNvml, put_nvml

H200 = {
    "uuid": "GPU-1",
    "gpu_percent": 37,
    "memory": (150 << 30, 3 << 30),
    "power_mw": 123_400,
    "limit_mw": 700_000,
    "energy_mj": 5_000,
}


@pytest.fixture(autouse=True)
def without_nvml(monkeypatch):
    put_nvml(monkeypatch, None)


def readings(root):
    """Return values by name and labels' values, sorted by label."""
    gauges = Gauges(root)
    gauges.open()
    try:
        read = gauges.read()
    finally:
        gauges.close()
    found = {(gauge.name, *gauge.labels.values()): gauge.value for gauge in read}
    assert len(found) == len(read), "a reading is there twice"
    assert {gauge.name for gauge in read} <= HELP.keys()
    return found


HOST = {
    ("nv_cpu_utilization",): 0.25,
    ("nv_cpu_memory_total_bytes",): 7620704 * 1024,
    ("nv_cpu_memory_used_bytes",): 4_000_000 * 1024,
}


def test_orin_with_l4t_35(tmp_path):
    sysfs.make_orin_35(tmp_path)
    assert readings(tmp_path) == HOST | {
        ("nv_gpu_utilization", "integrated"): 0.345,
        ("edgert_emc_utilization",): 0.25,
        ("edgert_nvmap_bytes",): 104 << 20,
        ("edgert_power_watts", "VDD_GPU_SOC"): 3.8,
        ("edgert_power_watts", "VDD_CPU_CV"): 1.9,
        ("edgert_temperature_celsius", "CPU-therm"): 45.312,
        ("edgert_temperature_celsius", "GPU-therm"): 43.5,
    }


def test_orin_with_l4t_36_whose_debug_folder_is_closed(tmp_path):
    sysfs.make_orin_36(tmp_path)
    assert readings(tmp_path) == HOST | {
        ("nv_gpu_utilization", "integrated"): 1.0,
        ("edgert_power_watts", "VDD_IN"): 5.0,
        ("edgert_power_watts", "VDD_CPU_GPU_CV"): 2.0,
        ("edgert_temperature_celsius", "cpu-thermal"): 50.0,
        ("edgert_temperature_celsius", "tj-thermal"): 51.0,
    }


def test_thor_with_l4t_38(tmp_path):
    sysfs.make_thor_38(tmp_path)
    assert readings(tmp_path) == HOST | {
        ("edgert_emc_utilization",): 1.0,
        ("edgert_power_watts", "VDD_GPU"): 6.0,
        ("edgert_power_watts", "VDD_CPU_SOC_MSS"): 3.6,
        ("edgert_power_watts", "VIN"): 31.5,
        ("nv_gpu_power_usage", "integrated"): 6.0,
        ("edgert_temperature_celsius", "cpu-thermal"): 50.0,
        ("edgert_temperature_celsius", "gpu-thermal"): 51.0,
    }


def test_thor_s_own_answers_come_before_those_of_files(tmp_path, monkeypatch):
    sysfs.make_thor_38(tmp_path)
    put_nvml(monkeypatch, FakeNvml({"uuid": "GPU-thor", "gpu_percent": 80, "power_mw": 9_000}))
    found = readings(tmp_path)
    gpu = {key: value for key, value in found.items() if key[0].startswith("nv_gpu_")}
    assert gpu == {("nv_gpu_utilization", "GPU-thor"): 0.8, ("nv_gpu_power_usage", "GPU-thor"): 9.0}
    assert found["edgert_power_watts", "VDD_GPU"] == 6.0


@pytest.mark.parametrize(
    "path",
    [
        "sys/devices/gpu.0/load",
        "sys/devices/platform/gpu.0/load",
        "sys/devices/platform/17000000.gpu/load",
        "sys/devices/platform/bus@0/17000000.gpu/load",
    ],
)
def test_load_is_found_without_devfreq(tmp_path, path):
    sysfs.write_tree(tmp_path, {path: "500\n"})
    assert [gauge.value for gauge in GpuLoadMeter(tmp_path).read()] == [0.5]


def test_other_devices_with_devfreq_are_no_gpu(tmp_path):
    for name, node in (("15340000.vic", "vic"), ("1d84000.ufshc", "ufs"), ("bwmgr", "")):
        folder = f"sys/class/devfreq/{name}/device"
        sysfs.write_tree(tmp_path, {f"{folder}/load": "500\n", f"{folder}/of_node/name": node})
    assert list(GpuLoadMeter(tmp_path).read()) == []


@pytest.mark.parametrize("text", ["total 5", "total 5K", "  total     5M  ", "total 5G"])
def test_nvmap_has_units(tmp_path, text):
    sysfs.write_tree(tmp_path, {"sys/kernel/debug/nvmap/iovmm/clients": f"CLIENT SIZE\nuser 1 3K\n{text}\n"})
    shift = {"K": 10, "M": 20, "G": 30}.get(text.strip()[-1], 0)
    assert [gauge.value for gauge in NvMapMeter(tmp_path).read()] == [5 << shift]


def test_zones_of_one_kind_stay_apart(tmp_path):
    sysfs.write_zones(tmp_path, [("soc", 1_000), ("soc", 2_000), ("tj", 3_000)])
    zones = {gauge.labels["zone"]: gauge.value for gauge in TemperatureMeter(tmp_path).read()}
    assert zones == {"soc": 1.0, "soc 1": 2.0, "tj": 3.0}


def test_rail_without_a_current_is_left_out(tmp_path):
    sysfs.write_rails(tmp_path, "hwmon1", [("VDD_IN", 5_000, 1_000), ("off", "", "")])
    assert [gauge.labels for gauge in RailMeter(tmp_path).read()] == [{"rail": "VDD_IN"}]


# What is not there, or goes away.


def test_machine_that_shows_nothing_has_no_readings(tmp_path):
    assert readings(tmp_path) == {}
    assert describe_gauges(tmp_path) == ""


@pytest.mark.parametrize("make", [sysfs.make_orin_35, sysfs.make_orin_36, sysfs.make_thor_38])
def test_what_goes_away_is_left_out(tmp_path, make):
    make(tmp_path)
    gauges = Gauges(tmp_path)
    gauges.open()
    assert gauges.read()
    shutil.rmtree(tmp_path / "sys")
    assert {gauge.name for gauge in gauges.read()} == {name for (name,) in HOST}
    shutil.rmtree(tmp_path / "proc")
    assert {gauge.name for gauge in gauges.read()} == {"nv_cpu_utilization"}
    gauges.close()
    assert gauges.read() == []


@pytest.mark.parametrize(
    "text", ["", "garbage", "cpu 1 2 x 4 5 6 7 8\n", "\xff\0\n", "total x\n", "MemTotal:\n"]
)
def test_files_that_say_something_else_are_left_out(tmp_path, text):
    sysfs.make_orin_35(tmp_path)
    gauges = Gauges(tmp_path)
    gauges.open()
    for file in [path for path in tmp_path.rglob("*") if path.is_file()]:
        file.write_bytes(text.encode("latin-1"))
    assert {gauge.name for gauge in gauges.read()} <= {"nv_cpu_utilization"}
    gauges.close()
    assert {name for name, *_ in readings(tmp_path)} == set()


def test_what_cannot_be_read_has_no_number(tmp_path):
    (tmp_path / "odd").write_bytes(b"\xff\xfe 1")
    assert read_number(tmp_path) is None  # a folder
    assert read_number(tmp_path / "absent") is None
    assert read_number(tmp_path / "odd") is None


# CPU.


def utilization(meter):
    return next(gauge.value for gauge in meter.read() if gauge.name == "nv_cpu_utilization")


def test_utilisation_is_of_the_time_between_two_readings(tmp_path):
    sysfs.write_proc(tmp_path, 100, 300)
    meter = HostMeter(tmp_path)
    assert utilization(meter) == 0.25  # since the machine started
    sysfs.write_proc(tmp_path, 175, 310, 15)
    assert utilization(meter) == 0.75
    sysfs.write_proc(tmp_path, 175, 410, 15)
    assert utilization(meter) == 0.0


def test_readings_close_to_each_other_give_the_same(tmp_path):
    sysfs.write_proc(tmp_path, 100, 300)
    meter = HostMeter(tmp_path)
    sysfs.write_proc(tmp_path, 119, 300)
    assert utilization(meter) == 0.25
    sysfs.write_proc(tmp_path, 120, 300)
    assert utilization(meter) == 1.0


def test_this_machine_has_a_host():
    gauges = Gauges()
    gauges.open()
    found = {gauge.name: gauge.value for gauge in gauges.read()}
    gauges.close()
    assert 0 <= found["nv_cpu_utilization"] <= 1
    assert 0 < found["nv_cpu_memory_used_bytes"] < found["nv_cpu_memory_total_bytes"]


# NVML.


@pytest.fixture
def nvml(monkeypatch):
    fake = FakeNvml(H200)
    put_nvml(monkeypatch, fake)
    yield fake
    assert fake.opened == 0
    assert LiveCount.snapshot().get("nvml") is None


def test_discrete_gpu_says_everything(tmp_path, nvml):
    assert readings(tmp_path) == {
        ("nv_gpu_utilization", "GPU-1"): 0.37,
        ("nv_gpu_memory_total_bytes", "GPU-1"): 150 << 30,
        ("nv_gpu_memory_used_bytes", "GPU-1"): 3 << 30,
        ("nv_gpu_power_usage", "GPU-1"): 123.4,
        ("nv_gpu_power_limit", "GPU-1"): 700.0,
        ("nv_energy_consumption", "GPU-1"): 0.0,
    }


def test_energy_is_since_the_start(tmp_path, nvml):
    gauges = Gauges(tmp_path)
    gauges.open()
    nvml.gpus[0] = H200 | {"energy_mj": 12_500}
    assert {gauge.name: gauge.value for gauge in gauges.read()}["nv_energy_consumption"] == 7.5
    gauges.close()


def test_gpu_that_is_lost_or_measures_little_is_left_out_there(tmp_path, nvml):
    nvml.gpus += [None, {"uuid": "GPU-3", "memory": (8, 4)}]
    found = readings(tmp_path)
    assert {gpu for _, gpu in found} == {"GPU-1", "GPU-3"}
    assert {name for name, gpu in found if gpu == "GPU-3"} == {
        "nv_gpu_memory_total_bytes",
        "nv_gpu_memory_used_bytes",
    }


def test_memory_is_told_by_older_drivers_too(tmp_path, nvml):
    nvml.is_old = True
    assert readings(tmp_path)["nv_gpu_memory_used_bytes", "GPU-1"] == 3 << 30


def test_library_without_a_driver_is_no_failure(tmp_path, monkeypatch):
    fake = FakeNvml(H200, is_there=False)
    put_nvml(monkeypatch, fake)
    assert readings(tmp_path) == {}
    assert fake.opened == 0


def test_readings_are_told_in_one_line(tmp_path, nvml):
    sysfs.make_orin_36(tmp_path)
    assert describe_gauges(tmp_path) == (
        "edgert_power_watts (2), edgert_temperature_celsius (2), nv_cpu_memory_total_bytes, "
        "nv_cpu_memory_used_bytes, nv_cpu_utilization, nv_energy_consumption, nv_gpu_memory_total_bytes, "
        "nv_gpu_memory_used_bytes, nv_gpu_power_limit, nv_gpu_power_usage, nv_gpu_utilization"
    )


def test_real_library_has_what_the_fake_has(monkeypatch):
    monkeypatch.delitem(sys.modules, "pynvml")
    pynvml = pytest.importorskip("pynvml")
    names = [name for name in vars(FakeNvml) if name.startswith("nvml")]
    assert len(names) == 11
    assert [name for name in names if not hasattr(pynvml, name)] == []
    assert issubclass(pynvml.NVMLError, Exception)

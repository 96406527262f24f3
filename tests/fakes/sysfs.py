"""Trees of `proc` and `sys` as boards show them, with the paths of L4T 35, 36 and 38."""

from __future__ import annotations

MEMINFO = """MemTotal:        7620704 kB
MemFree:         1050000 kB
MemAvailable:    3620704 kB
HugePages_Total:       0
"""
NVMAP = """CLIENT                        PROCESS      PID        SIZE
user                           Xorg     1201      4096K
user                         edgert     2210    102400K
total                                            106496K
"""


def write_tree(root, files):
    """Write files by path below `root`."""
    for path, text in files.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(str(text))


def link(root, path, target):
    """Make `path` a link to the folder `target`; both below `root`."""
    place = root / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(root / target, target_is_directory=True)


def write_proc(root, user, idle, iowait=0):
    """Write `stat` and `meminfo`; ticks since the start."""
    stat = f"cpu  {user} 0 0 {idle} {iowait} 0 0 0 55 0\ncpu0 1 2 3 4 5 6 7 8 9 0\nctxt 12\n"
    write_tree(root, {"proc/stat": stat, "proc/meminfo": MEMINFO})


def write_rails(root, hwmon, rails):
    """Write an INA3221: (label, mV, mA) by channel; its last label is that of a sum of voltages."""
    files = {"name": "ina3221\n", "in7_label": "Sum of shunt voltages\n", "in7_input": "7\n"}
    for channel, (label, millivolts, milliamperes) in enumerate(rails, 1):
        files |= {
            f"in{channel}_label": f"{label}\n",
            f"in{channel}_input": f"{millivolts}\n",
            f"curr{channel}_input": f"{milliamperes}\n",
        }
    write_tree(root, {f"sys/class/hwmon/{hwmon}/{name}": text for name, text in files.items()})


def write_zones(root, zones):
    """Write thermal zones: (type, millidegrees)."""
    for number, (kind, millidegrees) in enumerate(zones):
        folder = f"sys/class/thermal/thermal_zone{number}"
        write_tree(root, {f"{folder}/type": f"{kind}\n", f"{folder}/temp": f"{millidegrees}\n"})


def make_orin_35(root):
    """Write an Orin with L4T 35."""
    write_proc(root, 100, 300)
    gpu = "sys/devices/17000000.ga10b"
    write_tree(root, {f"{gpu}/load": "345\n", f"{gpu}/of_node/name": "ga10b\0"})
    write_tree(root, {f"{gpu}/devfreq/17000000.ga10b/cur_freq": "624750000\n"})
    link(root, "sys/class/devfreq/17000000.ga10b", f"{gpu}/devfreq/17000000.ga10b")
    link(root, f"{gpu}/devfreq/17000000.ga10b/device", gpu)
    debug = "sys/kernel/debug"
    write_tree(root, {f"{debug}/cactmon/mc_all": "53325000\n", f"{debug}/nvmap/iovmm/clients": NVMAP})
    write_tree(root, {f"{debug}/bpmp/debug/clk/emc/rate": "2133000000\n"})
    write_rails(root, "hwmon3", [("VDD_GPU_SOC", 19_000, 200), ("VDD_CPU_CV", 19_000, 100), ("NC", 0, 0)])
    write_zones(
        root, [("CPU-therm", 45_312), ("GPU-therm", 43_500), ("CV0-therm", ""), ("PMIC-Die", 100_000)]
    )


def make_orin_36(root):
    """Write an Orin with L4T 36, whose debug folder is closed."""
    write_proc(root, 100, 300)
    gpu = "sys/devices/platform/bus@0/17000000.gpu"
    write_tree(root, {f"{gpu}/load": "1000\n", f"{gpu}/devfreq/17000000.gpu/cur_freq": "306000000\n"})
    link(root, "sys/class/devfreq/17000000.gpu", f"{gpu}/devfreq/17000000.gpu")
    link(root, f"{gpu}/devfreq/17000000.gpu/device", gpu)
    write_rails(root, "hwmon1", [("VDD_IN", 5_000, 1_000), ("VDD_CPU_GPU_CV", 5_000, 400)])
    write_zones(root, [("cpu-thermal", 50_000), ("tj-thermal", 51_000), ("cv0-thermal", -256_000)])


def make_thor_38(root):
    """Write a Thor with L4T 38: its GPU's load is NVML's affair, its whole input an INA238's."""
    write_proc(root, 100, 300)
    write_tree(root, {"sys/class/devfreq/gpu-gpc-0/cur_freq": "1575000000\n"})
    write_tree(root, {"sys/class/devfreq/gpu-nvd-0/cur_freq": "1692000000\n"})
    write_tree(root, {"sys/class/devfreq/bwmgr/cur_freq": "4266000000\n"})
    write_tree(root, {"sys/kernel/debug/cactmon/mc_all": "426600000\n"})
    write_rails(root, "hwmon2", [("VDD_GPU", 12_000, 500), ("VDD_CPU_SOC_MSS", 12_000, 300)])
    write_tree(
        root, {"sys/class/hwmon/hwmon4/name": "ina238\n", "sys/class/hwmon/hwmon4/power1_input": "31500000\n"}
    )
    write_tree(
        root, {"sys/class/hwmon/hwmon5/name": "pwmfan\n", "sys/class/hwmon/hwmon5/in1_label": "no rail\n"}
    )
    write_zones(root, [("cpu-thermal", 50_000), ("gpu-thermal", 51_000)])

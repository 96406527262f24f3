"""The devices on which models are served, each with the scheduler that feeds its lanes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import msgspec

from edgert.device.opened import OpenDevice
from edgert.pipeline.progress import Pulse
from edgert.schedule.scheduler import Scheduler


class Site(msgspec.Struct, frozen=True):
    """A device, and the scheduler whose thread alone has it current and submits to its lanes."""

    device: OpenDevice
    scheduler: Scheduler


class FurtherGpus:
    """Opens the GPUs beside the first when a model first asks for them, and keeps them until it is closed.

    Each has a scheduler of its own: a thread has one device current, and polls the lanes of that one only.
    """

    def __init__(self, open_gpu: Callable[[int], OpenDevice]) -> None:
        """`open_gpu` gets CUDA's number."""
        self._open_gpu = open_gpu
        self._sites: dict[int, Site] = {}
        self._lock = threading.Lock()
        self._is_lost = False

    def site(self, gpu: int) -> Site:
        """Return a GPU at work. Raises DeviceError: it is not there; ConfigError as `open_device` does."""
        with self._lock:
            if gpu not in self._sites:
                device = self._open_gpu(gpu)
                scheduler = Scheduler(current=device.driver.current)
                scheduler.start()
                self._sites = {**self._sites, gpu: Site(device, scheduler)}
            return self._sites[gpu]

    def pulses(self, hang_s: float) -> Iterator[Pulse]:
        """Yield the pulse of each scheduler, and wake it: its next turn shows that it lives."""
        for gpu, site in self._sites.items():
            yield Pulse(f"the scheduler of GPU {gpu}", site.scheduler.turns, is_idle=False, limit_s=hang_s)
            site.scheduler.wake()

    def leave(self) -> None:
        """Hear that a device is lost: they all go with the process, as to ask one could take for ever."""
        self._is_lost = True

    def close(self) -> None:
        """End the schedulers and give the GPUs back. Their lanes must have been closed."""
        with self._lock:
            sites, self._sites = self._sites, {}
        for site in sites.values():
            site.scheduler.stop()
            if not self._is_lost:
                site.device.close()

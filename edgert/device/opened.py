"""A device that was taken, with the plan for its memory: what models and sources are opened on."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from itertools import count
from typing import Literal

from edgert.device.board import probe_cuda_driver
from edgert.device.driver import Driver
from edgert.device.host import HostDriver
from edgert.device.memory import Budget, Buffer
from edgert.device.placement import MemoryPlan, plan_memory
from edgert.device.scratch import ScratchGroups
from edgert.errors import ConfigError, DeviceError
from edgert.stats import CopyCounts

DeviceName = Literal["host", "cuda"]


class OpenDevice:
    """One driver, open. `copies` counts what goes between host and device. `gpu` is CUDA's number for it."""

    def __init__(
        self, driver: Driver, memory: MemoryPlan, gpu: int = 0, copies: CopyCounts | None = None
    ) -> None:
        self.driver = driver
        self.memory = memory
        self.gpu = gpu
        self.copies = copies or CopyCounts()
        self.scratch = ScratchGroups(driver)

    def slots_of(self, owner: str) -> Callable[[int], Buffer]:
        """Return the allocator of a source's slots."""
        return partial(self.driver.allocate, kind=self.memory.slots, owner=owner)

    def owner_of(self, name: str) -> str:
        """Return a name for who holds memory that nobody holds memory under just now.

        While a model is reloaded both have some: each is counted, and bounded, for itself. So is what a model
        has on another GPU than 0, which the name then says.
        """
        name = f"{name} on GPU {self.gpu}" if self.gpu else name
        owners = self.driver.budget.by_owner()
        names = (name if turn == 1 else f"{name} (load {turn})" for turn in count(1))
        return next(one for one in names if one not in owners or not owners[one].count)

    def close(self) -> None:
        """Give the device back. Everything on it must have been closed."""
        self.driver.close()


def open_device(
    name: DeviceName,
    budget: Budget | None = None,
    forced_memory: str = "",
    *,
    is_read_often: bool = False,
    gpu: int = 0,
    copies: CopyCounts | None = None,
) -> OpenDevice:
    """Take a device; of several GPUs the one with that number. `is_read_often`: frames go to several models.

    GPUs that are given the same `budget` and `copies` are counted, and bounded, together.

    Raises:
        DeviceError: it is not there.
        ConfigError: it cannot place memory as forced, or the library for it is missing.
    """
    driver = _make_cuda(budget, gpu) if name == "cuda" else HostDriver(budget)
    with ExitStack() as undo:
        driver.open()
        undo.callback(driver.close)
        memory = plan_memory(driver.attributes(), forced=forced_memory, is_read_often=is_read_often)
        opened = OpenDevice(driver, memory, gpu, copies)
        undo.pop_all()
        return opened


def _make_cuda(budget: Budget | None, gpu: int) -> Driver:
    driver = probe_cuda_driver()
    if driver.version is None:
        raise DeviceError(
            f"An engine for NVIDIA GPUs needs a GPU with its driver; here it is {driver.problem}. "
            "Run the model with onnxruntime, or on a machine with a GPU"
        )
    try:
        from edgert.device.cuda import CudaDriver
    except ImportError as error:
        raise ConfigError(
            f"An engine for NVIDIA GPUs needs pycuda: {error}. "
            "Run, where CUDA's toolkit is: pip install pycuda"
        ) from error
    return CudaDriver(budget, gpu)

"""Which memory holds slots and outputs: decided by what the device says of itself, never by its name.

After NVIDIA's "CUDA for Tegra" application note, sections Memory Selection, I/O Coherency and Sysmem Full
Coherency. Weights, scratch and intermediate tensors are the device's own everywhere and not planned here.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from edgert.device.memory import MemoryKind
from edgert.errors import ConfigError

Attributes = Mapping[str, str | int]

# What can be asked for by name: the kind of memory, and whether pixels go from there to the device's own.
CHOICES: dict[str, tuple[MemoryKind, bool]] = {
    "mapped": (MemoryKind.MAPPED, False),
    "registered": (MemoryKind.REGISTERED, False),
    "managed": (MemoryKind.MANAGED, False),
    "pageable": (MemoryKind.PAGEABLE, False),
    "staged": (MemoryKind.PINNED, True),
}

# What a device must say for that: attribute, and what it cannot do where that is 0.
_NEEDS: dict[str, tuple[tuple[str, str], ...]] = {
    "mapped": (("CAN_MAP_HOST_MEMORY", "it reads no host memory in place"),),
    "registered": (
        ("HOST_REGISTER_SUPPORTED", "it takes no memory that the process has already"),
        ("CAN_MAP_HOST_MEMORY", "it reads no host memory in place"),
    ),
    "managed": (
        ("MANAGED_MEMORY", "it has no managed memory"),
        ("CONCURRENT_MANAGED_ACCESS", "the host must not write a slot while the device works on another"),
    ),
    "pageable": (("PAGEABLE_MEMORY_ACCESS", "it does not read the process's own memory"),),
    "staged": (),
}


class MemoryPlan(msgspec.Struct, frozen=True):
    """Where pixels and results lie between host and device."""

    slots: MemoryKind
    is_staged: bool  # a slot's pixels are copied once to the device's own memory, and kernels read them there
    outputs: MemoryKind
    outputs_are_staged: bool  # the engine writes the device's own memory, which is then copied to `outputs`
    reason: str  # for people

    @property
    def choice(self) -> str:
        """The key of `CHOICES` that slots follow."""
        return "staged" if self.is_staged else self.slots.value


def plan_memory(attributes: Attributes, *, forced: str = "", is_read_often: bool = False) -> MemoryPlan:
    """Return the plan for a device with these attributes, named as pycuda names them.

    `os` "qnx" may stand among them. `forced` is a key of `CHOICES`. `is_read_often` says that most
    frames go to several models.

    Raises:
        ConfigError: the device cannot do what is forced; names the attribute.
    """
    if forced:
        refusal = obstacle(attributes, forced)
        if refusal:
            raise ConfigError(f'memory = "{forced}": {refusal}. Leave it out, or try: edgert doctor --memory')
        return _plan(forced, forced, f'memory = "{forced}" is set')
    if "INTEGRATED" not in attributes:
        return _plan("pageable", "pageable", "the CPU is the device")
    if not _says(attributes, "INTEGRATED"):
        return _plan("staged", "staged", "INTEGRATED 0: it has memory of its own behind a bus")
    return _plan_shared(attributes, is_read_often)


def obstacle(attributes: Attributes, choice: str) -> str:
    """Return why a device cannot follow a choice, naming the attribute; empty if it can.

    Raises:
        ConfigError: there is no such choice.
    """
    if choice not in CHOICES:
        raise ConfigError(f"memory = {choice!r}: expected one of {', '.join(map(repr, CHOICES))}")
    if "INTEGRATED" not in attributes:
        is_all = choice == "pageable"
        return "" if is_all else "INTEGRATED is not stated: the CPU is the device, all its memory is pageable"
    for name, consequence in _NEEDS[choice]:
        if not _says(attributes, name):
            return f"{name} is {attributes.get(name, 'not stated')} on this device: {consequence}"
    return ""


def _plan_shared(attributes: Attributes, is_read_often: bool) -> MemoryPlan:
    """Plan for a device that shares the host's memory."""
    is_qnx = attributes.get("os") == "qnx"
    coherent = _coherent_choice(attributes) if not is_qnx else ""
    if coherent:
        reason = "PAGEABLE_MEMORY_ACCESS 1: its caches hold the process's own memory, not pinned memory"
        return _plan(coherent, coherent, f"INTEGRATED 1, {reason}")
    if obstacle(attributes, "mapped"):
        return _plan("staged", "staged", "INTEGRATED 1, CAN_MAP_HOST_MEMORY 0: it reads no slot in place")
    where = "INTEGRATED 1 on QNX" if is_qnx else "INTEGRATED 1, PAGEABLE_MEMORY_ACCESS 0"
    if is_read_often:
        reason = "several models read a frame, and its caches hold no mapped memory"
        return _plan("staged", "mapped", f"{where}: {reason}")
    return _plan("mapped", "mapped", f"{where}: it reads a slot in place, once")


def _coherent_choice(attributes: Attributes) -> str:
    """Return how a device reads the process's own memory through its caches; empty if it does not."""
    if not _says(attributes, "PAGEABLE_MEMORY_ACCESS"):
        return ""
    if not obstacle(attributes, "registered"):
        return "registered"
    return "pageable" if _says(attributes, "PAGEABLE_MEMORY_ACCESS_USES_HOST_PAGE_TABLES") else ""


def _plan(slots: str, outputs: str, reason: str) -> MemoryPlan:
    return MemoryPlan(*CHOICES[slots], *CHOICES[outputs], reason)


def _says(attributes: Attributes, name: str) -> bool:
    """Say whether an attribute is set. One that is not stated counts as 0.

    But for HOST_REGISTER_SUPPORTED: pycuda does not know it, and every GPU that edgert supports has it
    on Linux.
    """
    unstated = int(name == "HOST_REGISTER_SUPPORTED" and attributes.get("os") != "qnx")
    return int(attributes.get(name, unstated)) != 0

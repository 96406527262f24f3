"""The preparation kernel on the CPU: compiled by g++, launched by a stream that runs it before it returns."""

from __future__ import annotations

import ctypes
import subprocess
from functools import cache
from pathlib import Path
from tempfile import NamedTemporaryFile

from edgert.device.host import HostDriver, HostStream
from edgert.errors import DeviceError
from edgert.prepare.kernels import IMAGE_FOLDER

WARP = 32
FLAGS = (
    *(
        "-x",
        "c++",
        "-std=c++17",
        "-O2",
        "-shared",
        "-fPIC",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-Wno-unknown-pragmas",
    ),
    "-ffp-contract=off",
)
UNDEFINED = ("-fsanitize=undefined", "-fsanitize-undefined-trap-on-error")  # ends the process
ADDRESS = ("-fsanitize=address",)  # the process has to be started with libasan


@cache
def host_image(compiler: str, checks: tuple[str, ...] = UNDEFINED) -> bytes:
    """Return the kernel as a shared library of this machine. `compiler` is g++'s path."""
    with NamedTemporaryFile(suffix=".so") as file:
        subprocess.run([compiler, *FLAGS, *checks, "-o", file.name, IMAGE_FOLDER / "kernels.cu"], check=True)
        return Path(file.name).read_bytes()


class HostKernel:
    """A kernel of a shared library."""

    def __init__(self, image: bytes, name: str) -> None:
        with NamedTemporaryFile(suffix=".so") as file:  # a name of its own: a library is loaded once a name
            file.write(image)
            file.flush()
            try:
                library = ctypes.CDLL(file.name)
                self.run = getattr(library, f"{name}_on_host")
            except (OSError, AttributeError) as error:
                raise DeviceError(f"The image has no kernel {name} for this machine: {error}") from error
        self.parameters_bytes = library.parameters_bytes()


class KernelStream(HostStream):
    """A host stream that runs kernels, and counts them."""

    def __init__(self) -> None:
        super().__init__()
        self.launches: list[tuple[tuple[int, int, int], tuple[int, int, int]]] = []

    def launch_kernel(self, kernel, grid, block, parameters):
        assert isinstance(kernel, HostKernel)
        assert isinstance(parameters, ctypes.Structure)
        assert (block[0], block[2], grid[2]) == (WARP, 1, 1)
        assert ctypes.sizeof(parameters) == kernel.parameters_bytes
        self.launches.append((grid, block))
        kernel.run(ctypes.byref(parameters), grid[0], grid[1], block[1])


class KernelDriver(HostDriver):
    """The CPU as a device that runs the preparation kernel."""

    name = "host kernels"

    def open_stream(self, priority: int = 0) -> KernelStream:
        return KernelStream()

    def load_kernel(self, image: bytes, name: str) -> HostKernel:
        return _loaded(image, name)


_loaded = cache(HostKernel)  # a library is never unloaded

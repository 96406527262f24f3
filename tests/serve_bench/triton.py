"""A real tritonserver: that of PyPI's nvidia-pytriton, on a plain repository, with its python backend."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.serve_bench.places import HOST
from tests.serve_bench.server import Server, ServerError

FIND_TIMEOUT_S = 60.0
_SHM_FOLDER = Path("/dev/shm")
_FIND = """
import importlib.metadata as metadata, importlib.util as util, json, os, sys, sysconfig
def version(name):
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""
print(json.dumps({
    "package": os.path.dirname(util.find_spec("pytriton").origin),
    "wheel": version("nvidia-pytriton"),
    "onnxruntime": version("onnxruntime"),
    "python": "%d.%d" % sys.version_info[:2],
    "libraries": sysconfig.get_config_var("LIBDIR") or "",
}))
"""


class Triton(NamedTuple):
    """Where an interpreter's nvidia-pytriton lies, and what else that interpreter has."""

    interpreter: Path
    package: Path
    wheel: str
    onnxruntime: str  # empty: not installed
    python: str
    libraries: str  # of libpython

    def open(self, folder: Path, store: Path) -> TritonServer:
        """Return a server of a store."""
        return TritonServer(self, folder, store)


def find_triton(interpreter: str | None) -> Triton | None:
    """Return what this interpreter has; None if that is no nvidia-pytriton."""
    if not interpreter:
        return None
    try:
        done = subprocess.run(
            [interpreter, "-c", _FIND], capture_output=True, text=True, timeout=FIND_TIMEOUT_S
        )
    except OSError:
        return None
    if done.returncode:
        return None
    told = json.loads(done.stdout)
    return Triton(Path(interpreter), Path(told.pop("package")), **told)


class TritonServer(Server):
    """Serves a store of models in Python."""

    title = "tritonserver"

    def __init__(self, triton: Triton, folder: Path, store: Path) -> None:
        super().__init__(folder)
        self._triton = triton
        self._store = store
        self._regions = f"edgert_bench_{os.getpid()}_{self.http_port}_"

    def command(self) -> Sequence[str]:
        """Put the python backend together, and return what runs it."""
        ports = {"http": self.http_port, "grpc": self.grpc_port, "metrics": self.metrics_port}
        addresses = [f"--{name}-{key}={value}" for name, port in ports.items() for key, value in
                     (("port", port), ("address", HOST))]  # fmt: skip
        return [
            str(self._triton.package / "tritonserver/bin/tritonserver"),
            f"--model-repository={self._store}",
            f"--backend-directory={self._backends()}",
            f"--backend-config=python,shm-region-prefix-name={self._regions}",
            "--log-verbose=0",
            *addresses,
        ]

    def environment(self) -> Mapping[str, str]:
        """Return the variables: the models' interpreter is the first on the path."""
        libraries = [str(self._triton.package.parent / "nvidia_pytriton.libs"), self._triton.libraries]
        path = f"{self._triton.interpreter.parent}{os.pathsep}{os.environ['PATH']}"
        return {**os.environ, "PATH": path, "LD_LIBRARY_PATH": os.pathsep.join(libraries)}

    def stop(self) -> None:
        """End it, and remove the shared memory that a killed one leaves."""
        super().stop()
        for left in _SHM_FOLDER.glob(f"{self._regions}*"):
            left.unlink(missing_ok=True)

    def _backends(self) -> Path:
        """Copy the backend into a folder of this server's own, the stub for its Python beside it."""
        source = self._triton.package / "tritonserver"
        stub = source / "python_backend_stubs" / self._triton.python / "triton_python_backend_stub"
        if not stub.exists():
            raise ServerError(f"nvidia-pytriton {self._triton.wheel} has no stub for {self._triton.python}")
        own = self.folder / "backends" / "python"
        shutil.rmtree(own, ignore_errors=True)
        own.mkdir(parents=True)
        for name in ("libtriton_python.so", "triton_python_backend_utils.py"):
            shutil.copy(source / "backends/python" / name, own / name)
        shutil.copy(stub, own / stub.name)
        return own.parent

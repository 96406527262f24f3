"""Where a tritonserver is found, and how it is started."""

import sys
from pathlib import Path

import pytest

from tests.serve_bench.server import ServerError
from tests.serve_bench.triton import Triton, find_triton


@pytest.fixture
def triton(tmp_path):
    package = tmp_path / "site" / "pytriton"
    for name in (
        "backends/python/libtriton_python.so",
        "backends/python/triton_python_backend_utils.py",
        "python_backend_stubs/3.11/triton_python_backend_stub",
    ):
        file = package / "tritonserver" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
    return Triton(Path("/venv/bin/python"), package, "0.7.0", "", "3.11", "/python/lib")


@pytest.mark.parametrize("interpreter", [None, "", "/nowhere/python", "/bin/false", sys.executable])
def test_an_interpreter_without_it_has_none(interpreter):
    assert find_triton(interpreter) is None


def test_the_backend_is_put_together_in_the_server_s_own_folder(triton, tmp_path):
    server = triton.open(tmp_path / "own", tmp_path / "store")
    command, environment = server.command(), server.environment()
    backend = tmp_path / "own" / "backends" / "python"
    assert f"--backend-directory={backend.parent}" in command
    assert f"--model-repository={tmp_path / 'store'}" in command
    assert f"--http-port={server.http_port}" in command
    assert sorted(path.name for path in backend.iterdir()) == [
        "libtriton_python.so",
        "triton_python_backend_stub",
        "triton_python_backend_utils.py",
    ]
    assert environment["PATH"].startswith("/venv/bin:")
    assert environment["LD_LIBRARY_PATH"] == f"{tmp_path}/site/nvidia_pytriton.libs:/python/lib"


def test_a_python_without_a_stub_is_an_error(triton, tmp_path):
    with pytest.raises(ServerError, match=r"no stub for 3\.9"):
        triton._replace(python="3.9").open(tmp_path / "own", tmp_path).command()

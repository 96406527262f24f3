"""Plugin libraries: real ones, made by a C compiler, and a registry that is a fake where it must answer."""

from __future__ import annotations

import ctypes
import hashlib
import itertools
import shutil
import subprocess

import msgspec
import pytest

from edgert.errors import ModelError
from edgert.execute import tensorrt_plugins
from edgert.execute.options import PluginOptions
from edgert.execute.tensorrt_bindings import Bindings, differences_of, load_bindings
from edgert.execute.tensorrt_log import Records, make_logger
from edgert.execute.tensorrt_plugins import load_plugins

LOGGER = object()
COUNTED = "static int calls; int calls_so_far(void) { return calls; }\n"
SELF_REGISTERING = COUNTED + "__attribute__((constructor)) static void on_load(void) { calls++; }\n"
OLDER = (
    COUNTED + "_Bool initLibNvInferPlugins(void *logger, const char *space) { calls++; return !logger; }\n"
)
FAILING = "_Bool initLibNvInferPlugins(void *logger, const char *space) { return 0; }\n"
NEWER = "void *getCreators(int *count) { *count = 0; return 0; }\n"


class FakeRegistry:
    """Takes libraries, or refuses all."""

    def __init__(self, takes):
        self._takes = takes
        self.asked = []

    def load_library(self, path):
        self.asked.append(path)
        return f"handle of {path}" if self._takes else None


class FakeTrt:
    """What load_plugins asks of a TensorRT module."""

    def __init__(self, takes=True, has_own=True):
        self.registry = FakeRegistry(takes)
        self.own = []
        self._has_own = has_own

    def get_plugin_registry(self):
        return self.registry

    def init_libnvinfer_plugins(self, logger, namespace):
        self.own.append((logger, namespace))
        return self._has_own


@pytest.fixture(autouse=True)
def fresh_process(monkeypatch):
    """Give each test a process that has loaded nothing."""
    monkeypatch.setattr(tensorrt_plugins, "_loaded", {})


@pytest.fixture
def make_library(tmp_path):
    compiler = shutil.which("cc") or pytest.skip("cc is missing: apt-get install gcc")
    numbers = itertools.count()

    def make(source):
        number = next(numbers)
        code = tmp_path / f"{number}.c"
        code.write_text(f"{source}int number_{number}_of_this_test;\n")
        library = tmp_path / "detector" / f"{number}.so"
        library.parent.mkdir(exist_ok=True)
        subprocess.run([compiler, "-shared", "-fPIC", "-o", library, code], check=True)
        return library

    return make


def bindings_of(trt, runtime="tensorrt", version=(10, 3, 0)):
    own = msgspec.structs.asdict(differences_of(runtime, version))
    return Bindings(module=trt, runtime=runtime, version=version, **own)


def options_of(library, **changes):
    own = {"file": library.name, "sha256": hashlib.sha256(library.read_bytes()).hexdigest()}
    return PluginOptions(**{**own, **changes})


def load(trt, *libraries, **bindings):
    plugins = [options_of(library) for library in libraries]
    load_plugins(bindings_of(trt, **bindings), LOGGER, plugins, libraries[0].parent)


def calls_so_far(library):
    return ctypes.CDLL(str(library)).calls_so_far()


def test_a_library_goes_into_tensorrts_registry(make_library):
    trt, library = FakeTrt(), make_library(NEWER)
    load(trt, library)
    assert trt.registry.asked == [str(library)]


def test_a_library_is_loaded_once_in_a_process(make_library):
    trt, first, second = FakeTrt(), make_library(NEWER), make_library(OLDER)
    load(trt, first, second)
    load(trt, first)
    assert trt.registry.asked == [str(first), str(second)]


def test_each_runtime_has_a_registry_of_its_own(make_library):
    trt, rtx, library = FakeTrt(), FakeTrt(), make_library(NEWER)
    load(trt, library)
    load(rtx, library, runtime="tensorrt_rtx", version=(1, 4, 0))
    assert rtx.registry.asked == [str(library)]


def test_nvidias_own_plugins_are_registered_once(tmp_path):
    trt = FakeTrt()
    for _ in range(2):
        load_plugins(bindings_of(trt), LOGGER, (), tmp_path)
    assert trt.own == [(LOGGER, "")]


def test_where_there_are_none_they_are_not_registered(tmp_path):
    trt = FakeTrt(has_own=False)
    load_plugins(bindings_of(trt, "tensorrt_lean", (10, 16, 1)), LOGGER, (), tmp_path)
    assert trt.own == []
    with pytest.raises(ModelError, match=r"TensorRT 10\.3\.0 cannot register its own plugins"):
        load_plugins(bindings_of(trt), LOGGER, (), tmp_path)


def test_another_file_than_was_meant_is_not_loaded(make_library):
    trt, library = FakeTrt(), make_library(SELF_REGISTERING)
    meant = "ab" * 32
    expected = (
        rf"0\.so: the plugin library has SHA-256 {options_of(library).sha256}, edgert\.toml expects "
        rf"{meant}\. "
        rf"If you trust this file, write there what this prints: sha256sum {library}$"
    )
    with pytest.raises(ModelError, match=expected):
        load_plugins(bindings_of(trt), LOGGER, [options_of(library, sha256=meant)], library.parent)
    assert trt.registry.asked == []


def test_a_hash_may_be_in_capitals(make_library):
    trt, library = FakeTrt(), make_library(NEWER)
    capitals = options_of(library).sha256.upper()
    load_plugins(bindings_of(trt), LOGGER, [options_of(library, sha256=capitals)], library.parent)
    assert trt.registry.asked == [str(library)]


def test_a_library_outside_the_models_folder_is_refused(make_library):
    library = make_library(NEWER)
    outside = options_of(library, file="../elsewhere/nms.so")
    expected = r"edgert\.toml: engine\.plugins\.file = '\.\./elsewhere/nms\.so': expected a file inside"
    with pytest.raises(ModelError, match=expected):
        load_plugins(bindings_of(FakeTrt()), LOGGER, [outside], library.parent)


def test_a_library_that_is_not_there_is_told(tmp_path):
    absent = PluginOptions(file="nms.so", sha256="0" * 64)
    with pytest.raises(ModelError, match=r"nms\.so: cannot be read: No such file"):
        load_plugins(bindings_of(FakeTrt()), LOGGER, [absent], tmp_path)


def test_a_file_that_is_no_library_is_told(tmp_path):
    file = tmp_path / "nms.so"
    file.write_text("not ELF")
    with pytest.raises(
        ModelError, match=r"nms\.so: the plugin library cannot be loaded: .*(invalid ELF|too short)"
    ):
        load_plugins(bindings_of(FakeTrt(takes=False)), LOGGER, [options_of(file)], tmp_path)


@pytest.mark.parametrize("source", [OLDER, SELF_REGISTERING])
def test_a_library_of_the_older_kind_registers_itself(make_library, source):
    trt, library = FakeTrt(takes=False), make_library(source)
    load(trt, library)
    load(trt, library)
    assert trt.registry.asked == [str(library)]
    assert calls_so_far(library) == 1


def test_an_older_library_that_reports_failure_is_refused(make_library):
    with pytest.raises(
        ModelError, match=r"0\.so: initLibNvInferPlugins of the plugin library reports failure"
    ):
        load(FakeTrt(takes=False), make_library(FAILING))


def test_a_library_that_the_registry_refuses_is_not_loaded_behind_its_back(make_library):
    with pytest.raises(ModelError, match="refuses this plugin library, and logs why"):
        load(FakeTrt(takes=False), make_library(NEWER))


def test_what_was_refused_is_tried_again(make_library):
    trt, library = FakeTrt(takes=False), make_library(FAILING)
    for _ in range(2):
        with pytest.raises(ModelError):
            load(trt, library)
    assert len(trt.registry.asked) == 2


def test_the_real_tensorrt_rtx_takes_the_older_kind_and_refuses_an_empty_newer_one(make_library):
    pytest.importorskip("tensorrt_rtx", reason="needs TensorRT-RTX: pip install tensorrt-rtx-cu13")
    bindings = load_bindings("tensorrt_rtx", needs_device=False)
    older, newer = make_library(OLDER), make_library(NEWER)
    logger = make_logger(bindings.module, Records())
    load_plugins(bindings, logger, [options_of(older)], older.parent)
    assert calls_so_far(older) == 1
    with pytest.raises(ModelError, match="refuses this plugin library"):
        load_plugins(bindings, logger, [options_of(newer)], newer.parent)

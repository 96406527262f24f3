"""Loading TensorRT's modules. What is in the real ones is looked at in tests/contract."""

from __future__ import annotations

import importlib.util
import sys

import pytest

from edgert.device.board import CudaDriverProbe
from edgert.errors import ConfigError, DeviceError
from edgert.execute.tensorrt_bindings import (
    FLAGS_FIRST,
    STREAM_FIRST,
    USED_NAMES,
    Bindings,
    Differences,
    differences_of,
    load_bindings,
    missing_names,
)


def works():
    return CudaDriverProbe((13, 0))


def is_absent():
    return CudaDriverProbe(None, "none (libcuda.so.1 is not there)")


def must_not_be_asked():
    raise AssertionError("the driver was asked")


class FakeModules:
    """Modules that have the names of `USED_NAMES` and do nothing, as files on the path."""

    def __init__(self, folder):
        self._folder = folder
        self.names = []

    def add(self, name, version, *, without="", before="", after=""):
        lines = [before, f"__version__ = {version!r}" if version else ""]
        classes = {}
        for _, owner, names in USED_NAMES:
            classes.setdefault(owner, []).extend(each for each in names.split() if each != without)
        lines += [f"class {each}: pass" for each in classes.pop("", [])]
        for owner, names in classes.items():
            lines += [f"class {owner}: {' = '.join(names)} = 3" if names else f"class {owner}: pass"]
        (self._folder / f"{name}.py").write_text("\n".join([*lines, after]))
        self.names.append(name)


@pytest.fixture
def modules(tmp_path, monkeypatch):
    known = [
        f"tensorrt{kind}{end}" for kind in ("", "_lean", "_dispatch", "_rtx") for end in ("", "_bindings")
    ]
    for name in known:
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    fakes = FakeModules(tmp_path)
    yield fakes
    for name in fakes.names:
        sys.modules.pop(name, None)


def need_none(name):
    if importlib.util.find_spec(name) or importlib.util.find_spec(f"{name}_bindings"):
        pytest.skip(f"{name} is installed here")


def test_a_module_is_loaded_with_what_is_particular_to_it(modules):
    modules.add("tensorrt", "10.16.2.10")
    bindings = load_bindings("tensorrt", probe=works)
    assert bindings.module is sys.modules["tensorrt"]
    assert (bindings.runtime, bindings.version, bindings.title) == (
        "tensorrt",
        (10, 16, 2, 10),
        "TensorRT 10.16.2",
    )
    assert bindings.has_runtime_config
    assert not bindings.has_runtime_cache


def test_bindings_without_their_front_end_will_do(modules):
    need_none("tensorrt_lean")
    modules.add("tensorrt_lean_bindings", "11.4.0.106")
    bindings = load_bindings("tensorrt_lean", probe=works)
    assert bindings.version == (11, 4, 0, 106)
    assert not bindings.has_builder


def test_the_front_end_goes_first(modules):
    modules.add("tensorrt_dispatch", "10.3.0")
    modules.add("tensorrt_dispatch_bindings", "10.7.0")
    assert load_bindings("tensorrt_dispatch", probe=works).version == (10, 3, 0)


def test_a_front_end_that_cannot_be_loaded_gives_way_to_its_bindings(modules):
    modules.add("tensorrt_dispatch", "10.3.0", before="raise ImportError('libfront.so')")
    modules.add("tensorrt_dispatch_bindings", "10.7.0")
    assert load_bindings("tensorrt_dispatch", probe=works).version == (10, 7, 0)


@pytest.mark.parametrize(
    ("runtime", "remedy"),
    [
        ("tensorrt", "on a board apt install python3-libnvinfer .* elsewhere pip install tensorrt"),
        ("tensorrt_lean", "python3-libnvinfer-lean .* pip install tensorrt-lean-cu13"),
        ("tensorrt_dispatch", "python3-libnvinfer-dispatch .* pip install tensorrt-dispatch-cu13"),
    ],
)
def test_a_module_that_is_not_there_is_told_before_the_driver_is_asked(modules, runtime, remedy):
    need_none(runtime)
    with pytest.raises(ConfigError, match=f'runtime = "{runtime}": .* is not installed. .*{remedy}$'):
        load_bindings(runtime, probe=must_not_be_asked)


@pytest.mark.parametrize(
    "failure",
    [
        "raise ImportError('libnvinfer.so.10: cannot open shared object file')",
        "raise OSError('libnvinfer.so.10: cannot open shared object file')",
        "raise RuntimeError('libnvinfer.so.10: cannot open shared object file')",
    ],
)
def test_a_library_that_is_missing_below_a_module_is_named(modules, failure):
    modules.add("tensorrt_dispatch", "10.3.0", before=failure)
    expected = (
        r"TensorRT \(dispatch\) is installed but cannot be loaded: tensorrt_dispatch: libnvinfer\.so\.10"
    )
    with pytest.raises(ConfigError, match=expected):
        load_bindings("tensorrt_dispatch", probe=works)


def test_without_a_driver_no_module_is_imported(modules):
    modules.add("tensorrt", "10.3.0", before="raise SystemExit('imported')")
    with pytest.raises(DeviceError, match=r"TensorRT needs a CUDA driver; here it is none \(libcuda"):
        load_bindings("tensorrt", probe=is_absent)


def test_a_builder_asks_for_no_driver(modules):
    modules.add("tensorrt_rtx", "1.4.0.76")
    assert load_bindings("tensorrt_rtx", needs_device=False, probe=must_not_be_asked).version[:2] == (1, 4)


@pytest.mark.parametrize(
    ("runtime", "version", "message"),
    [
        (
            "tensorrt",
            "8.6.2",
            r"TensorRT 8\.6\.2 is installed; edgert runs with 10\.3 to 11\.x\. To install it",
        ),
        ("tensorrt", "10.2.0.19", r"edgert runs with 10\.3 to 11\.x\. To install it"),
        ("tensorrt", "12.0.0", r"TensorRT 12\.0\.0 is installed; .* 10\.3 to 11\.x\. Install a newer edgert"),
        ("tensorrt", None, "TensorRT of unknown version is installed"),
        ("tensorrt", "unknown", "TensorRT unknown is installed"),
        ("tensorrt_rtx", "1.3.0.35", r"TensorRT-RTX 1\.3\.0\.35 is installed; edgert runs with 1\.4 to 1\.x"),
        ("tensorrt_rtx", "2.0.0", "Install a newer edgert"),
    ],
)
def test_a_version_that_edgert_does_not_know_is_refused(modules, runtime, version, message):
    modules.add(runtime, version)
    with pytest.raises(ConfigError, match=message):
        load_bindings(runtime, probe=works)


def test_a_later_version_of_a_known_major_is_taken_if_it_has_what_is_used(modules):
    modules.add("tensorrt", "11.9.0.1")
    assert load_bindings("tensorrt", probe=works).allocate_order == FLAGS_FIRST


def test_a_name_that_was_removed_is_told_when_the_module_is_loaded(modules):
    modules.add("tensorrt", "11.9.0.1", without="load_library")
    with pytest.raises(
        ConfigError, match=r"TensorRT 11\.9\.0 lacks what edgert uses: IPluginRegistry\.load_library\."
    ):
        load_bindings("tensorrt", probe=works)


@pytest.mark.parametrize(
    ("runtime", "version", "order"),
    [
        ("tensorrt", (10, 3, 0), STREAM_FIRST),
        ("tensorrt", (11, 1, 0, 106), STREAM_FIRST),
        ("tensorrt", (11, 2, 1, 2), FLAGS_FIRST),
        ("tensorrt_lean", (10, 16, 1, 11), STREAM_FIRST),
        ("tensorrt_lean", (11, 4, 0, 106), FLAGS_FIRST),
        ("tensorrt_rtx", (1, 4, 0, 76), STREAM_FIRST),
        ("tensorrt_rtx", (1, 5, 0, 114), STREAM_FIRST),
        ("tensorrt_rtx", (1, 6, 1, 120), FLAGS_FIRST),
    ],
)
def test_the_allocator_is_called_in_two_orders(runtime, version, order):
    assert differences_of(runtime, version).allocate_order == order


def test_versions_differ_in_what_they_can():
    ten, eleven = differences_of("tensorrt", (10, 3, 0)), differences_of("tensorrt", (11, 1, 0))
    rtx, lean = differences_of("tensorrt_rtx", (1, 4, 0)), differences_of("tensorrt_lean", (10, 16, 1))
    assert ten == Differences()
    assert (ten.has_calibrators, eleven.has_calibrators, rtx.has_calibrators) == (True, False, False)
    assert (ten.has_precision_flags, eleven.has_precision_flags, rtx.has_precision_flags) == (
        True,
        False,
        False,
    )
    assert (ten.is_strongly_typed, eleven.is_strongly_typed, rtx.is_strongly_typed) == (False, True, True)
    assert (ten.has_runtime_cache, eleven.has_runtime_cache, rtx.has_runtime_cache) == (False, False, True)
    assert (lean.has_builder, lean.has_engine_inspector, lean.has_runtime_config) == (False, False, True)


def bindings_of(runtime, version, module=None):
    own = differences_of(runtime, version)
    return Bindings(
        module=module,
        runtime=runtime,
        version=version,
        **{name: getattr(own, name) for name in own.__struct_fields__},
    )


class FakeTrt:
    """The flags of create_network, as TensorRT numbers them."""

    class NetworkDefinitionCreationFlag:
        STRONGLY_TYPED = 1


@pytest.mark.parametrize(
    ("runtime", "version", "is_strongly_typed", "flags"),
    [
        ("tensorrt", (10, 3, 0), True, 2),
        ("tensorrt", (10, 3, 0), False, 0),
        ("tensorrt", (11, 1, 0), True, 0),
        ("tensorrt_rtx", (1, 4, 0), True, 0),
    ],
)
def test_the_flags_of_a_network(runtime, version, is_strongly_typed, flags):
    assert bindings_of(runtime, version, FakeTrt).network_flags(is_strongly_typed) == flags


def test_networks_that_cannot_be_made_are_refused():
    with pytest.raises(ConfigError, match=r"TensorRT 11\.1\.0 takes precision from the model alone"):
        bindings_of("tensorrt", (11, 1, 0)).network_flags(is_strongly_typed=False)
    with pytest.raises(ConfigError, match=r"TensorRT \(lean\) 10\.16\.1 cannot build engines"):
        bindings_of("tensorrt_lean", (10, 16, 1)).network_flags()


class FakeEngine:
    """Says how much scratch memory it needs."""

    device_memory_size_v2 = 5 << 30

    def get_device_memory_size_for_profile_v2(self, profile):
        return profile << 32


def test_scratch_memory_may_be_larger_than_four_gigabytes():
    bindings = bindings_of("tensorrt", (10, 3, 0))
    assert bindings.scratch_bytes(FakeEngine()) == 5 << 30
    assert bindings.scratch_bytes(FakeEngine(), profile=2) == 2 << 32


def test_what_a_version_is_known_not_to_have_is_not_missed(modules):
    modules.add("tensorrt", "10.3.0", without="init_libnvinfer_plugins")
    module = __import__("tensorrt")
    assert list(missing_names(module, differences_of("tensorrt", (10, 3, 0)))) == ["init_libnvinfer_plugins"]
    assert not list(missing_names(module, differences_of("tensorrt_rtx", (1, 4, 0))))


def test_the_real_tensorrt_rtx_loads_without_a_gpu():
    pytest.importorskip("tensorrt_rtx", reason="needs TensorRT-RTX: pip install tensorrt-rtx-cu13")
    bindings = load_bindings("tensorrt_rtx", needs_device=False)
    assert bindings.title.startswith("TensorRT-RTX 1.")
    assert bindings.network_flags() == 0

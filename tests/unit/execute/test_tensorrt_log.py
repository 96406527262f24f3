"""What TensorRT says, and the errors that are made of it."""

from __future__ import annotations

import gc
import logging
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from edgert.errors import (
    ConfigError,
    DeviceError,
    DeviceLostError,
    EdgertError,
    EngineMismatchError,
    ModelError,
    OutOfDeviceMemoryError,
)
from edgert.execute.tensorrt_log import KEPT_RECORDS, EngineLog, Record, Records, explain, make_logger

PLAN = Path("store/detector/1/model.plan")
INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)
NO_DRIVER = (
    "[checkMacros.cpp::catchCudaError::229] Error Code 1: Cuda Runtime "
    "(In catchCudaError at /_src/common/dispatch/checkMacros.cpp:229)"
)


class FakeTrt:
    """A module whose ILogger is called as TensorRT calls it, by `say`."""

    class ILogger:
        def __init__(self):
            self.is_initialised = True

        def say(self, severity, text):
            self.log(severity, text)


@pytest.fixture
def engine_log():
    return EngineLog(FakeTrt, PLAN)


@pytest.fixture
def heard(caplog):
    caplog.set_level(logging.DEBUG - 5, logger="tensorrt")
    return lambda: [(record.levelname, record.getMessage()) for record in caplog.records]


def errors(*texts):
    return tuple(Record(logging.ERROR, text) for text in texts)


def why(*texts):
    """Return the error that these errors of TensorRT make."""
    return explain(PLAN, errors(*texts), "TensorRT 10.16.2 cannot load it")


def test_the_logger_is_one_of_tensorrt(engine_log):
    assert isinstance(engine_log.logger, FakeTrt.ILogger)
    assert engine_log.logger.is_initialised


def test_everything_is_handed_on_to_logging(engine_log, heard):
    for severity, text in enumerate(("internal", "error", "warning", "info\n", "verbose")):
        engine_log.logger.say(severity, text)
    assert heard() == [
        ("ERROR", "internal"),
        ("ERROR", "error"),
        ("WARNING", "warning"),
        ("DEBUG", "info"),
        ("Level 5", "verbose"),
    ]


def test_percent_signs_are_text(engine_log, heard):
    engine_log.logger.say(WARNING, "100 %s of %d")
    assert heard() == [("WARNING", "100 %s of %d")]


def test_warnings_and_errors_are_kept(engine_log):
    for severity, text in enumerate(("internal", "error", "warning", "info", "verbose")):
        engine_log.logger.say(severity, text)
    assert [record.text for record in engine_log.records()] == ["internal", "error", "warning"]


@pytest.mark.parametrize(
    "text",
    [
        "The engine does not support the current compute capability 9.0. Supported compute "
        "capabilities are: 8.0",
        "The logger passed into createInferRuntime differs from one already registered for an "
        "existing builder",
        "In JIT build, strongly typed is enabled by default.",
        "CUDA lazy loading is not enabled. Enabling it can significantly reduce device memory usage",
    ],
)
def test_a_harmless_warning_alarms_nobody(engine_log, heard, text):
    engine_log.logger.say(INFO, text)
    engine_log.logger.say(WARNING, text)
    assert heard() == [("DEBUG", text), ("DEBUG", text)]
    assert engine_log.records() == ()


def test_an_error_is_an_error_whatever_it_says(engine_log):
    engine_log.logger.say(ERROR, "The engine does not support the current compute capability 9.0.")
    assert isinstance(engine_log.explain("TensorRT-RTX 1.7.1 cannot load it"), EngineMismatchError)


def test_only_the_newest_are_kept(engine_log):
    for number in range(KEPT_RECORDS + 10):
        engine_log.logger.say(WARNING, str(number))
    assert [record.text for record in engine_log.records()] == [str(10 + n) for n in range(KEPT_RECORDS)]


def test_the_last_word_is_an_error_if_there_was_one(engine_log):
    assert engine_log.last() == ""
    engine_log.logger.say(WARNING, "early")
    assert engine_log.last() == "early"
    engine_log.logger.say(ERROR, "first")
    engine_log.logger.say(ERROR, "second")
    engine_log.logger.say(WARNING, "late")
    assert engine_log.last() == "second"


def test_engines_do_not_hear_each_other(engine_log):
    other = EngineLog(FakeTrt, PLAN)
    other.logger.say(ERROR, "mine")
    assert engine_log.last() == ""
    assert type(other.logger) is type(engine_log.logger)


def test_any_thread_may_speak_while_another_reads():
    records = Records()
    logger = make_logger(FakeTrt, records)
    speakers = [
        threading.Thread(target=lambda: [logger.say(ERROR, "x") for _ in range(500)]) for _ in range(4)
    ]
    for speaker in speakers:
        speaker.start()
    while any(speaker.is_alive() for speaker in speakers):
        assert len(records.kept()) <= KEPT_RECORDS
    for speaker in speakers:
        speaker.join()
    assert len(records.kept()) == KEPT_RECORDS


def test_a_logger_outlives_its_log_but_keeps_nothing(heard):
    records = Records()
    logger = make_logger(FakeTrt, records)
    del records
    gc.collect()
    logger.say(ERROR, "after the engine was closed")
    assert heard() == [("ERROR", "after the engine was closed")]
    assert logger._records() is None


# Texts as TensorRT and TensorRT-RTX print them.
TEXTS = [
    (
        "IRuntime::deserializeCudaEngine: Error Code 1: Serialization (Serialization assertion "
        "header.magicTag == "
        "kEXPECTED_MAGIC_TAG failed.Trying to load an engine created with incompatible serialization version "
        "(2086686717 != 1953657974). Check that the engine was not created using safety runtime, "
        "same OS was used "
        "and version compatibility parameters were set accordingly and that it is a TRT engine file. In "
        "throwUnlessHeaderOk at /_src/runtime/dispatch/runtime.cpp:42)",
        EngineMismatchError,
        r"no engine for this runtime: check \[engine\] runtime",
    ),
    (
        "IRuntime::deserializeCudaEngine: Error Code 1: Serialization (Serialization assertion "
        "plan.header.size == "
        "blobSize failed. In parsePlan at /_src/runtime/dispatch/runtime.cpp:634)",
        ModelError,
        "damaged or incomplete: copy it again",
    ),
    (
        "IRuntime::deserializeCudaEngine: Error Code 1: Serialization (Serialization assertion "
        "cursor < blobSize "
        "failed. In parsePlan at /_src/runtime/dispatch/runtime.cpp:633)",
        ModelError,
        "damaged or incomplete",
    ),
    (
        "IRuntime::deserializeCudaEngine: Error Code 3: API Usage Error (Cannot deserialize with "
        "an empty memory "
        "buffer. In deserializeCudaEngineEx at /_src/runtime/dispatch/runtime.cpp:235)",
        ModelError,
        "damaged or incomplete",
    ),
    (
        "[engine.cpp::readEngineFromArchive::1237] Error Code 2: OutOfMemory (Requested size was "
        "17882624 bytes.)",
        OutOfDeviceMemoryError,
        r"cannot load it: Requested size was 17882624 bytes\. Fewer lanes",
    ),
    (
        "The engine plan file is not compatible with this version of TensorRT, expecting library "
        "version 10.16.2.10 "
        "got 10.3.0.30, please rebuild.",
        EngineMismatchError,
        r"got 10\.3\.0\.30, please rebuild\. It was built with another version of TensorRT\. Build it again",
    ),
    (
        "[stdArchiveReader.cpp::stdArchiveReaderInitCommon::46] Error Code 1: Serialization "
        "(Serialization assertion "
        "stdVersionRead == kSERIALIZATION_VERSION failed.Version tag does not match. Note: Current "
        "Version: 239, "
        "Serialized Engine Version: 236)",
        EngineMismatchError,
        "another version of TensorRT",
    ),
    (
        "The engine has been created with TensorRT-RTX version 1.4.0.76, but the current runtime "
        "is TensorRT-RTX "
        "version 1.5.0.114. Rebuild the engine with the same version of TensorRT-RTX as the current runtime.",
        EngineMismatchError,
        "another version of TensorRT",
    ),
    (
        "The engine plan file is generated on an incompatible device, expecting compute 8.7 got "
        "compute 7.2, please "
        "rebuild.",
        EngineMismatchError,
        "It was built for another GPU",
    ),
    (
        "The current device is not compatible with this hardware-compatible engine. Expected "
        "compute capability >= "
        "8.0 but got compute capability = 7.2",
        EngineMismatchError,
        "It was built for another GPU",
    ),
    (
        "Using an engine plan file across different models of devices is not supported and is "
        "likely to affect "
        "performance or even cause errors or deadlock.",
        EngineMismatchError,
        "It was built for another GPU",
    ),
    (
        "Serialization assertion header.pad == expectedPlatformTag failed.Platform specific tag "
        "mismatch detected. "
        "TensorRT plan files are only supported on the target runtime platform they were created on.",
        EngineMismatchError,
        "another kind of system",
    ),
    (
        "[stubs.cpp::loadRunner::9] Error Code 2: Internal Error (Unexpected call to stub loadRunner for "
        "ReformatRunner.)",
        EngineMismatchError,
        "built version-compatible",
    ),
    (
        "Cannot deserialize serialized engine built with EngineCapability::kDLA_STANDALONE, use "
        "cuDLA APIs instead.",
        ModelError,
        "another loader",
    ),
    (
        "Cannot deserialize engine with lean runtime since IRuntime::getEngineHostCodeAllowed() is false.",
        ModelError,
        "host_code_allowed = true",
    ),
    ("Runtime load failed: could not create lean runtime ", ModelError, r"\$TMPDIR must be writable"),
    (
        "IPluginRegistry::getCreator: Error Code 4: API Usage Error (Cannot find plugin: "
        "EfficientNMS_TRT, version: 1, "
        "namespace:.)",
        ModelError,
        r"Cannot find plugin: EfficientNMS_TRT.*under \[\[engine.plugins\]\]",
    ),
    ("Target GPU SM 87 is not supported by this TensorRT release.", ConfigError, "use JetPack's own"),
    ("CUDA initialization failure with error: 35", DeviceError, "driver is missing or too old"),
    (
        "[runner.cpp::execute::1] Error Code 1: Cuda Runtime (an illegal memory access was encountered)",
        DeviceLostError,
        "has to be restarted",
    ),
    (NO_DRIVER, DeviceError, "A CUDA call failed"),
]


@pytest.mark.parametrize(("text", "kind", "remedy"), TEXTS, ids=[text[:40] for text, _, _ in TEXTS])
def test_tensorrts_words_become_an_error_with_a_remedy(text, kind, remedy):
    error = why(text)
    assert type(error) is kind
    assert str(error).startswith("store/detector/1/model.plan: TensorRT 10.16.2 cannot load it: ")
    with pytest.raises(EdgertError, match=remedy):
        raise error


@pytest.mark.parametrize(("text", "kind"), [(text, kind) for text, kind, _ in TEXTS[:-1]])
def test_what_follows_from_a_cause_does_not_hide_it(text, kind):
    assert type(why("Something else failed.", text, NO_DRIVER)) is kind


def test_the_words_come_without_source_lines():
    error = str(why(TEXTS[1][0]))
    assert "cannot load it: Serialization assertion plan.header.size == blobSize failed. The file" in error
    assert "/_src" not in error


def test_words_that_nobody_knows_are_repeated():
    error = why("first", "[x.cpp::f::1] Error Code 9: Internal Error (something new. In f at /_src/x.cpp:1)")
    assert type(error) is ModelError
    assert str(error).endswith("cannot load it: something new")


def test_warnings_explain_only_where_there_is_no_error():
    warning = Record(logging.WARNING, "Using an engine plan file across different models of devices")
    assert str(explain(PLAN, (warning,), "it fails")).endswith("it fails: " + warning.text)
    assert str(explain(PLAN, (warning, *errors("boom")), "it fails")).endswith("it fails: boom")


def test_silence_is_said():
    assert str(explain(PLAN, (), "it fails")) == f"{PLAN}: it fails: TensorRT does not say why"


@pytest.fixture
def rtx():
    return pytest.importorskip("tensorrt_rtx", reason="needs TensorRT-RTX: pip install tensorrt-rtx-cu13")


@pytest.mark.parametrize(
    ("content", "kind"),
    [(b"", ModelError), (b"x" * 200, EngineMismatchError), (b"vtrt" + b"\0" * 60, ModelError)],
)
def test_the_real_tensorrt_rtx_explains_itself(rtx, content, kind):
    engine_log = EngineLog(rtx, PLAN)
    assert rtx.Runtime(engine_log.logger).deserialize_cuda_engine(content) is None
    assert type(engine_log.explain("TensorRT-RTX cannot load it")) is kind


CLOSE_THE_FIRST = """
import gc, sys
from pathlib import Path
import tensorrt_rtx as trt
from edgert.execute.tensorrt_log import EngineLog
first, second = EngineLog(trt, Path("first")), EngineLog(trt, Path("second"))
first_runtime, second_runtime = trt.Runtime(first.logger), trt.Runtime(second.logger)
del first_runtime, first
gc.collect()
trt.get_plugin_registry().load_library("/there/is/none.so")
print("alive")
"""


def test_tensorrt_may_call_the_first_logger_after_its_engine_was_closed(rtx):
    done = subprocess.run(
        [sys.executable, "-c", CLOSE_THE_FIRST], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "alive\n"), done.stderr
    assert "Unable to load library: /there/is/none.so" in done.stderr

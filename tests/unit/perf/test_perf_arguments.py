"""The command line of `edgert perf`."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import pytest

from edgert.errors import ConfigError
from edgert.perf import command
from edgert.perf.options import InputFile, Level


def parse(*arguments):
    parser = argparse.ArgumentParser(prog="edgert perf")
    command.add_arguments(parser)
    return parser.parse_args([*arguments])


def read(*arguments):
    return command.read_options(parse("coco", *arguments))


def test_the_defaults_are_those_of_trtexec():
    options = read()
    assert (options.duration_s, options.warm_up_ms, options.iterations) == (3.0, 200.0, 10)
    assert (options.graphs, options.device_times, options.batch, options.lanes) == (None, True, None, None)
    assert (options.window.warm_up_ns, options.window.duration_ns) == (200_000_000, 3_000_000_000)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("4", (4,)),
        ("1:4", (1, 2, 3, 4)),
        ("1:16:5", (1, 6, 11, 16)),
        ("2:16:5", (2, 7, 12)),
        ("3:3", (3,)),
    ],
)
def test_a_range_of_concurrency(text, values):
    assert read("--concurrency", text).concurrency == values


@pytest.mark.parametrize(
    ("text", "values"),
    [("100", (100,)), ("0.5", (0.5,)), ("50:200:50", (50, 100, 150, 200)), ("0.1:0.3:0.1", (0.1, 0.2, 0.3))],
)
def test_a_range_of_rates(text, values):
    assert read("--rate", text).rate == pytest.approx(values)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--concurrency", "0"),
        ("--concurrency", "1.5"),
        ("--concurrency", "4:1"),
        ("--concurrency", "1:2:3:4"),
        ("--concurrency", "1:100000"),
        ("--concurrency", ""),
        ("--rate", "50:500"),  # without a step
        ("--rate", "0"),
        ("--rate", "nan"),
        ("--rate", "inf"),
        ("--concurrency", "1", "--rate", "1"),
        ("--duration", "0"),
        ("--duration", "soon"),
        ("--warm-up-ms", "-1"),
        ("--iterations", "0"),
        ("--batch", "0"),
        ("--input", "image"),
        ("--input", "=file"),
        ("--shape", "image=3xwide"),
        ("--shape", "image=0x3"),
        ("--runtime", "torch"),
        ("--arrivals", "bursts"),
    ],
)
def test_what_is_wrong_is_refused_with_its_argument(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        parse("coco", *arguments)
    assert ended.value.code == 2
    assert f"argument {arguments[-2]}" in capsys.readouterr().err


def test_arrivals_belong_to_a_rate():
    assert read("--rate", "5").arrivals == "poisson"
    assert read("--rate", "5", "--arrivals", "constant").arrivals == "constant"
    with pytest.raises(ConfigError, match="--arrivals: is for --rate"):
        read("--concurrency", "5", "--arrivals", "constant")


def test_inputs_and_shapes_are_by_name():
    options = read("--input", "a=x.png", "--input", "a=y=z.png", "--shape", "b=3x20x10")
    assert options.inputs == (InputFile("a", Path("x.png")), InputFile("a", Path("y=z.png")))
    assert options.shapes == {"b": (3, 20, 10)}


def test_graphs_can_be_asked_for_and_refused():
    assert (read("--graphs").graphs, read("--no-graphs").graphs) == (True, False)
    assert read("--no-device-times").device_times is False


def test_which_loads_are_measured():
    assert read().levels(6) == (Level("concurrency", 6),)
    assert read("--concurrency", "2:3").levels(6) == (Level("concurrency", 2), Level("concurrency", 3))
    assert read("--rate", "50").levels(6) == (Level("rate", 50),)
    searched = [level.value for level in read("--latency-limit-ms", "10").levels(6)]
    assert searched == [1, 2, 4, 8, 16, 32, 64, 128, 256]


def test_a_page_is_refused_before_anything_is_measured(tmp_path):
    for page in (tmp_path, tmp_path / "nowhere" / "page.html"):
        with pytest.raises(ConfigError, match="--html"):
            command.run(parse("no-such-model", "--html", str(page)))


def test_importing_the_command_needs_none_of_the_big_libraries():
    big = "('numpy', 'cv2', 'onnxruntime', 'msgspec', 'logging')"
    code = f"import sys, edgert.perf.command; print([name for name in {big} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"

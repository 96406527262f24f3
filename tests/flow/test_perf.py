"""`edgert perf` on a tiny ONNX model, from the command line to the page."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from edgert.errors import EdgertError
from edgert.exit_codes import ExitCode, exit_code_of
from edgert.perf import command
from edgert.perf.run import BARE_RUNS
from edgert.stats import LiveCount
from tests.fakes import store
from tests.fakes.store import Site

QUICK = ("--duration", "0.05", "--warm-up-ms", "5")
TIMEOUT_S = 60.0

# A process of its own, so that a signal is the command's alone.
PROCESS = """
import argparse, sys
from edgert.perf import command
parser = argparse.ArgumentParser()
command.add_arguments(parser)
try:
    sys.exit(command.run(parser.parse_args()))
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


@pytest.fixture
def mean(site):
    return site.add("mean", store.mean_model(), config="instance_group [ { count: 2 } ]\n")


def perf(*arguments):
    """Return the exit code, as the command line gives it."""
    parser = argparse.ArgumentParser(prog="edgert perf")
    command.add_arguments(parser)
    try:
        return command.run(parser.parse_args([str(argument) for argument in arguments]))
    except EdgertError as error:
        print(error, file=sys.stderr)
        return exit_code_of(error)


def test_a_model_is_measured(mean, capsys):
    assert perf(mean, *QUICK) == ExitCode.OK
    out, err = capsys.readouterr()
    assert out.startswith("mean/1 with onnxruntime on ")
    assert "2 lanes" in out
    assert "=== Performance summary: concurrency 2 ===\nThroughput: " in out
    assert err == ""
    assert not {"host lane", "buffer"} & set(LiveCount.snapshot())


def test_json_says_what_text_says(mean, capsys):
    assert perf("mean", "--store", mean.parent, "--batch", 4, "--json", "--seed", 3, *QUICK) == ExitCode.OK
    report = json.loads(capsys.readouterr().out)
    [level] = report["levels"]
    assert (report["setup"]["batch"], report["setup"]["seed"]) == (4, 3)
    assert level["items_per_s"] == pytest.approx(4 * level["throughput_per_s"], rel=1e-3)
    assert 0 < level["compute"]["min_ms"] <= level["compute"]["median_ms"] <= level["response"]["max_ms"]
    assert level["requests"] >= 10
    assert level["fetch"]["max_ms"] == 0.0


def test_a_sweep_makes_a_page_and_tells_its_progress(mean, capsys, tmp_path):
    page = tmp_path / "curve.html"
    assert perf(mean, "--concurrency", "1:3", "--html", page, *QUICK) == ExitCode.OK
    out, err = capsys.readouterr()
    assert [line.split(":")[0] for line in err.splitlines()] == [f"concurrency {n}" for n in (1, 2, 3)]
    assert out.count("\nconcurrency ") == 3
    text = page.read_text()
    assert text.count("<circle") == 6
    assert "mean/1" in text


def test_an_open_loop_keeps_its_rate(mean, capsys):
    arguments = ("--rate", 200, "--arrivals", "constant", "--duration", 0.5, "--json")
    assert perf(mean, *arguments) == ExitCode.OK
    [level] = json.loads(capsys.readouterr().out)["levels"]
    assert level["throughput_per_s"] == pytest.approx(200, rel=0.15)
    assert level["unserved"] == 0


def test_the_limit_ends_the_sweep(site, capsys):
    folder = site.add("slow", store.slow_model(1))
    assert perf(folder, "--latency-limit-ms", 0.01, "--json", *QUICK) == ExitCode.OK
    report = json.loads(capsys.readouterr().out)
    assert (len(report["levels"]), report["best"]) == (1, None)


def test_the_plain_loop_runs_beside_it(mean, capsys):
    assert perf(mean, "--bare", "--json", *QUICK) == ExitCode.OK
    report = json.loads(capsys.readouterr().out)
    assert report["bare"]["width"] == 2
    assert len(report["bare_ratios"]) == BARE_RUNS
    assert min(report["bare_ratios"]) > 0


def test_real_input(mean, capsys, tmp_path):
    file = tmp_path / "images.npy"
    np.save(file, np.zeros((3, 3, 8, 8), np.float32))
    assert perf(mean / "1" / "model.onnx", "--input", f"image={file}", *QUICK) == ExitCode.OK
    assert "input: 3 batches from files" in capsys.readouterr().out


def test_noop_measures_edgert_itself(site, capsys):
    assert perf(site.add_noop(), "--batch", 4, *QUICK) == ExitCode.OK
    assert "noop/1 with noop" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("nothing",), ExitCode.CONFIG, "no such folder or file"),
        (("MEAN", "--layers"), ExitCode.CONFIG, "--layers"),
        (("MEAN", "--arrivals", "poisson"), ExitCode.CONFIG, "--arrivals"),
        (("MEAN", "--input", "image=absent.npy"), ExitCode.CONFIG, "absent.npy"),
        (("MEAN", "--html", "nowhere/page.html"), ExitCode.CONFIG, "--html"),
        (("other", "--store", "STORE"), ExitCode.MODEL, "'other' is not in the store"),
    ],
)
def test_what_is_wrong_is_said_with_its_exit_code(mean, capsys, arguments, code, message):
    named = {"MEAN": mean, "STORE": mean.parent}
    assert perf(*(named.get(argument, argument) for argument in arguments)) == code
    out, err = capsys.readouterr()
    assert message in err
    assert out == ""


def test_ctrl_c_ends_with_what_was_measured(mean):
    """The signal comes once the first level of very many has been told."""
    arguments = [str(mean), "--concurrency", "1:500", "--duration", "0.2", "--json"]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", PROCESS, *arguments], stdout=pipe, stderr=pipe, text=True
    ) as process:
        assert process.stderr.readline().startswith("concurrency 1: ")
        os.kill(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=TIMEOUT_S)
    report = json.loads(out)
    assert process.returncode == ExitCode.OK
    assert report["is_interrupted"]
    assert 1 <= len(report["levels"]) < 500
    assert "Traceback" not in err

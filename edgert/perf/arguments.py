"""The arguments of `edgert perf`. Imports nothing large: every `edgert --help` reads them."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

_RUNTIMES = ("onnxruntime", "noop", "tensorrt", "tensorrt_lean", "tensorrt_dispatch", "tensorrt_rtx")
_MOST_LEVELS = 1000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "model", metavar="MODEL", help="a model's folder, an engine file, or with --store a model's name"
    )
    parser.add_argument("--store", type=Path, metavar="DIR", help="the store that MODEL is in")
    parser.add_argument("--runtime", choices=_RUNTIMES, help="instead of the model's own")
    _add_engine(parser.add_argument_group("engine"))
    _add_load(parser.add_argument_group("load"))
    _add_input(parser.add_argument_group("input"))
    _add_output(parser.add_argument_group("output"))


def _add_engine(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--batch", type=_count, metavar="N", help="items a batch (default 1, or the engine's)")
    group.add_argument(
        "--lanes", type=_count, metavar="N", help="batches that run at once (default: model's)"
    )
    group.add_argument("--threads", type=_count, metavar="N", help="CPU threads a lane of onnxruntime")
    both = argparse.BooleanOptionalAction
    group.add_argument("--graphs", action=both, default=None, help="CUDA graphs (default: model's)")
    group.add_argument(
        "--device-times",
        action=both,
        default=True,
        help="time copies and computing by the device's clock (default); else batches run as in the service",
    )


def _add_load(group: argparse._ArgumentGroup) -> None:
    loads = group.add_mutually_exclusive_group()
    loads.add_argument("--concurrency", type=_counts, metavar="N|A:B[:STEP]", help="requests outstanding")
    loads.add_argument("--rate", type=_rates, metavar="R|A:B:STEP", help="requests a second")
    group.add_argument("--arrivals", choices=("poisson", "constant"), help="of --rate (default poisson)")
    group.add_argument(
        "--latency-limit-ms", type=_positive, metavar="X", help="end the sweep where p99 is above it"
    )
    group.add_argument("--duration", type=_positive, default=3.0, metavar="S", help="a level (default 3)")
    group.add_argument(
        "--warm-up-ms", type=_not_negative, default=200.0, metavar="MS", help="not counted (default 200)"
    )
    group.add_argument(
        "--iterations", type=_count, default=10, metavar="N", help="batches a level at least (default 10)"
    )


def _add_input(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--input",
        type=_named_file,
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="JPEG, PNG, .npy, .npz, or a folder of them; again for more (default: random numbers)",
    )
    group.add_argument(
        "--shape",
        type=_named_shape,
        action="append",
        default=[],
        metavar="NAME=3x640x640",
        help="of one item, where the engine leaves sides open",
    )
    group.add_argument("--seed", type=int, default=0, metavar="N", help="of numbers and arrivals (default 0)")


def _add_output(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--layers", action="store_true", help="time each layer, in a run of its own")
    group.add_argument("--nvtx", action="store_true", help="mark submits and fills for nsys")
    group.add_argument("--bare", action="store_true", help="run the plain loop too, and compare")
    group.add_argument("--json", action="store_true", help="print JSON")
    group.add_argument("--html", type=Path, metavar="FILE", help="write a page with the curve there")


# Types of arguments. argparse shows their names: "invalid whole number value".


def _count(text: str) -> int:
    return int(_within(int(text), 1, 1 << 20, text))


def _positive(text: str) -> float:
    return _within(float(text), 1e-9, 1e9, text)


def _not_negative(text: str) -> float:
    return _within(float(text), 0.0, 1e9, text)


def _counts(text: str) -> tuple[float, ...]:
    return _range(text, _count, 1)


def _rates(text: str) -> tuple[float, ...]:
    return _range(text, _positive, None)


def _named_file(text: str) -> tuple[str, Path]:
    name, _, file = text.partition("=")
    if not name or not file:
        raise argparse.ArgumentTypeError(f"expected NAME=FILE, not {text}")
    return name, Path(file)


def _named_shape(text: str) -> tuple[str, tuple[int, ...]]:
    name, _, sides = text.partition("=")
    if not name or not sides:
        raise argparse.ArgumentTypeError(f"expected NAME=3x640x640, not {text}")
    return name, tuple(_count(side) for side in sides.split("x"))


_count.__name__ = "whole number"
_positive.__name__ = _not_negative.__name__ = "number"
_counts.__name__ = _rates.__name__ = "range"
_named_shape.__name__ = "shape"


def _within(number: float, low: float, high: float, text: str) -> float:
    if not low <= number <= high:
        raise argparse.ArgumentTypeError(f"expected {low:g} to {high:g}, not {text}")
    return number


def _range(text: str, read: Callable[[str], float], usual_step: float | None) -> tuple[float, ...]:
    """Return the values of `4`, `1:16` or `50:500:50`, the end included."""
    first, *rest = (read(part) for part in text.split(":"))
    if not rest:
        return (first,)
    last, *steps = rest
    step = steps[0] if steps else usual_step
    if step is None or len(rest) > 2 or last < first:
        raise argparse.ArgumentTypeError(f"expected {'A:B:STEP' if usual_step is None else 'A:B[:STEP]'}")
    count = int((last - first) / step + 1e-9) + 1
    if count > _MOST_LEVELS:
        raise argparse.ArgumentTypeError(f"{text} has {count} levels, expected at most {_MOST_LEVELS}")
    return tuple(first + step * index for index in range(count))

"""The command line of `edgert build`. Imported by every command, so it imports nothing of weight."""

from __future__ import annotations

import argparse
from pathlib import Path

RUNTIMES = ("tensorrt", "tensorrt_lean", "tensorrt_dispatch", "tensorrt_rtx")

BUILD_EXAMPLES = """examples:
  edgert build detector.onnx --store store --precision fp16 --batch 1,4,8 --frames pictures
  edgert build store/coco/1/model.onnx --store store --name coco-rtx --like coco --runtime tensorrt_rtx
  edgert build detector.onnx --store store --top-k 100        fewer boxes leave the GPU
  edgert build detector.onnx --store store --shapes images=1x3x300x300:4x3x300x300:8x3x300x300
  edgert build detector.onnx --store store --compare detector --frames pictures    later, where there is a GPU
  edgert build --rollback detector --store store              back to the version before
A build writes a new version and nothing else: config.pbtxt, edgert.toml and labels only where there are none.
After it `edgert models FILE --load MODEL`, or SIGHUP, lets a running service take it over."""


def add_build(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("model", type=Path, nargs="?", metavar="MODEL.onnx", help="what to build from")
    parser.add_argument("--store", type=Path, required=True, metavar="DIR", help="the model store")
    parser.add_argument("--name", help="in the store (default: of its folder there, or of the file)")
    parser.add_argument("--like", metavar="MODEL", default="", help="take settings and labels over from it")
    parser.add_argument("--json", action="store_true", help="print JSON")
    _add_engine(parser.add_argument_group("the engine"))
    _add_inputs(parser.add_argument_group("its inputs"))
    _add_outputs(parser.add_argument_group("its outputs"))
    _add_agreement(parser.add_argument_group("comparison with onnxruntime"))
    _add_versions(parser.add_argument_group("versions"))


def _add_engine(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--runtime", choices=RUNTIMES, help="default: the model's, or what is installed")
    group.add_argument("--precision", choices=("fp32", "fp16", "int8"), default="fp32")
    group.add_argument("--workspace-mb", type=_positive, metavar="N", help="at most so much scratch memory")
    group.add_argument("--version-compatible", action="store_true", help="later versions may run it")
    group.add_argument(
        "--hardware-compatible",
        choices=("same_compute_capability", "ampere_plus"),
        help="other GPUs may run it, at some cost in speed",
    )
    group.add_argument(
        "--compute", type=_words, default=(), metavar="8.6,8.9", help="TensorRT-RTX: for these"
    )
    group.add_argument("--timing-cache", type=Path, metavar="FILE", help="read and written; needs a GPU")
    group.add_argument(
        "--calibration-cache", type=Path, metavar="FILE", help="INT8 without Q/DQ nodes, up to TensorRT 10"
    )
    group.add_argument("--dla-core", type=int, metavar="N", help="run on this DLA core, else on the GPU")


def _add_inputs(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--batch",
        type=_sizes,
        default=(),
        metavar="1,4,8",
        help="a profile for each, for batches up to it; default: config.pbtxt's max_batch_size, or 4",
    )
    group.add_argument(
        "--shapes",
        action="append",
        default=[],
        metavar="NAME=MIN:OPT:MAX",
        help="a profile; several inputs with commas, several profiles by giving it again",
    )
    group.add_argument(
        "--engine-per-batch",
        action="store_true",
        help="for each size a model NAME-b4 of its own",
    )


def _add_outputs(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--top-k",
        type=_positive,
        metavar="N",
        help="only a detector's N best boxes",
    )
    group.add_argument("--boxes", metavar="NAME", help="the output, if [decode] does not say")
    group.add_argument("--scores", metavar="NAME", help="the output, if [decode] does not say")


def _add_agreement(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--frames", type=Path, nargs="+", default=[], metavar="FILE", help="pictures, or folders of pictures"
    )
    group.add_argument(
        "--tolerance",
        type=_fraction,
        metavar="X",
        help="how far it may be off, 0 to 1; default: by precision",
    )
    group.add_argument("--force", action="store_true", help="activate it even if it is off by more")
    group.add_argument("--compare", metavar="MODEL", help="only compare the newest version, build nothing")


def _add_versions(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--keep-previous", type=_count, metavar="N", help="once compared, remove older ones that were built"
    )
    group.add_argument("--rollback", metavar="MODEL", help="take the newest version out, build nothing")


def _positive(text: str) -> int:
    return _bounded(text, 1)


def _count(text: str) -> int:
    return _bounded(text, 0)


def _bounded(text: str, least: int) -> int:
    number = int(text)
    if number < least:
        raise argparse.ArgumentTypeError(f"expected {least} or more, not {text}")
    return number


def _sizes(text: str) -> tuple[int, ...]:
    sizes = tuple(_positive(part) for part in text.split(","))
    if len(set(sizes)) != len(sizes):
        raise argparse.ArgumentTypeError(f"expected each batch size once, not {text}")
    return sizes


def _words(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(","))


def _fraction(text: str) -> float:
    number = float(text)
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"expected 0 to 1, not {text}")
    return number


# argparse says: invalid whole number value
_positive.__name__ = _count.__name__ = "whole number"
_sizes.__name__ = "list of batch sizes"
_fraction.__name__ = "fraction"

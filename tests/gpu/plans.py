"""Builds plans for tests and benchmarks, with nothing of edgert between."""

from __future__ import annotations

from functools import cache
from pathlib import Path


@cache
def shared_logger():
    """Return the one logger: TensorRT keeps the first that it gets."""
    import tensorrt_rtx as trt

    return trt.Logger(trt.Logger.ERROR)


def build_plan(model: Path, plan: Path, *profiles: dict) -> Path:
    """Build `plan` from an ONNX file; a profile is {input: (smallest, usual, largest shape)}."""
    import tensorrt_rtx as trt

    builder = trt.Builder(shared_logger())
    network = builder.create_network()
    parser = trt.OnnxParser(network, shared_logger())
    assert parser.parse_from_file(str(model)), [parser.get_error(i).desc() for i in range(parser.num_errors)]
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    for ranges in profiles:
        profile = builder.create_optimization_profile()
        for name, shapes in ranges.items():
            profile.set_shape(name, *shapes)
        config.add_optimization_profile(profile)
    built = builder.build_serialized_network(network, config)
    assert built is not None, f"{model} was not built"
    plan.parent.mkdir(parents=True, exist_ok=True)
    plan.write_bytes(bytes(built))
    return plan


def batches(name, item, largest, usual=None, smallest=1):
    """Return a profile for batches up to `largest`."""
    return {name: tuple((size, *item) for size in (smallest, usual or largest, largest))}

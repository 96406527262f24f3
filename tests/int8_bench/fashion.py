"""A small network on Fashion-MNIST, with labels: 500 training pictures calibrate, 10,000 others test."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgert.demo.material import Material
from edgert.frames.result import Array
from edgert.prepare.options import PrepareOptions
from tests.int8_bench.agreement import same_top1
from tests.int8_bench.fashion_cnn import SIDE, fashion, fashion_model
from tests.int8_bench.session import Outputs
from tests.int8_bench.workload import Figures, Workload, prepared, write_calibration

CALIBRATION = 500
TOP1_LOST_MAX = 0.0002  # 0.8785 of 0.8787
AGREEMENT_MIN = 0.998
PREPARE = PrepareOptions(fit="none", colour="gray", mean=0.0, scale=1 / 255)
ITEM_SHAPE = (1, SIDE, SIDE)


def open_workload(cache: Path, material: Material, folder: Path, *, quick: bool) -> Workload:
    """Train the network if need be, and write what calibrates it below `folder`."""
    pictures, labels = fashion(cache, "test")
    pictures, labels = (pictures[:1000], labels[:1000]) if quick else (pictures, labels)
    chosen = fashion(cache, "train")[0][: CALIBRATION // 10 if quick else CALIBRATION]
    return Workload(
        name="fashion",
        title="Fashion-MNIST CNN",
        model=fashion_model(cache),
        prepare=PREPARE,
        calibration=write_calibration(folder, chosen, PREPARE, ITEM_SHAPE, len(chosen)),
        held_out=prepared(pictures, PREPARE, ITEM_SHAPE),
        batch=500,
        score=lambda reference, outputs: _score(reference, outputs, labels),
        say=lambda f: f"top-1 {f['top1']:.4f} (FP32 {f['fp32_top1']:.4f}), agreement {f['agreement']:.4f}",
        limit=f">= FP32 - {TOP1_LOST_MAX:g}, {AGREEMENT_MIN}",
        is_met=lambda f: (
            f["top1"] >= f["fp32_top1"] - TOP1_LOST_MAX - 1e-9 and f["agreement"] >= AGREEMENT_MIN
        ),
    )


def _score(reference: Outputs, outputs: Outputs, labels: Array) -> Figures:
    ours, theirs = outputs["logits"], reference["logits"]
    return {
        "top1": float((ours.argmax(axis=1) == labels).mean()),
        "fp32_top1": float((theirs.argmax(axis=1) == labels).mean()),
        "agreement": same_top1(theirs, ours) / len(labels),
        "frames": float(np.size(labels)),
    }

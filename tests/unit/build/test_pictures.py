"""Pictures and kept frames as tensors, as the service would have prepared them."""

from __future__ import annotations

import numpy as np
import pytest

from edgert.build.pictures import prepare_pictures
from edgert.build.target import plan_of
from edgert.calibrate.sample.frame_files import open_frame_folder
from edgert.models.store import ModelStore
from edgert.models.tensor_spec import TensorSpec
from edgert.prepare.fresh import FreshPreparer
from tests.fakes.recipe import SIDE, RecipeSite, blotch

SPEC = TensorSpec("image", "float32", (-1, 3, SIDE, SIDE))
NV12 = np.random.default_rng(7).integers(0, 256, (SIDE * 3 // 2, SIDE), np.uint8)


@pytest.mark.parametrize(
    ("image", "pixel_format"), [(NV12, "nv12"), (NV12[:SIDE], "gray8"), (blotch(3), "bgr8")]
)
def test_a_kept_frame_is_prepared_in_its_own_format(tmp_path, image, pixel_format):
    plan = plan_of(ModelStore(RecipeSite(tmp_path).store).entry("tiny"))
    with open_frame_folder(tmp_path / "work") as folder:
        path = folder.write(4, image, pixel_format).path
    [example] = prepare_pictures(plan, SPEC, [path], has_batch_axis=True)
    expected, _ = FreshPreparer(plan.settings.prepare, SPEC.shape[1:], "float32").prepare(image, pixel_format)
    np.testing.assert_array_equal(example.tensor, expected)
    assert example.placement.source_height == SIDE

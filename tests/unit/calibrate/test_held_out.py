"""Pictures of the frames that changed most, whatever their format."""

from __future__ import annotations

import numpy as np
import pytest

from edgert.calibrate.compare.changed import ChangedFrame
from edgert.calibrate.report.pictures import pictures_of
from edgert.calibrate.sample.frame_files import open_frame_folder
from tests.fakes.recipe import RecipeSite, blotch

PLANE = np.random.default_rng(1).integers(0, 256, (48, 32), np.uint8)


@pytest.mark.parametrize(("image", "pixel_format"), [(blotch(1), "bgr8"), (PLANE, "gray8"), (PLANE, "nv12")])
def test_frames_of_every_format_are_shown(tmp_path, image, pixel_format):
    site = RecipeSite(tmp_path)
    with open_frame_folder(site.work) as folder:
        file = folder.write(1, image, pixel_format).path
    frame = ChangedFrame(str(file.relative_to(site.work)), 0.5, 32, 32, None, None)
    [shown] = pictures_of(site.work, [frame])
    assert shown.frame is frame
    assert shown.jpeg.startswith(b"\xff\xd8")

"""What every run looks at before frames are taken, and `--check` alone."""

from __future__ import annotations

from contextlib import closing

import msgspec

from edgert.calibrate.fit import check_fit
from edgert.calibrate.quantize.placement import Placement
from edgert.calibrate.recipe import Recipe
from edgert.calibrate.sample.options import SampleOptions
from edgert.calibrate.sample.sampler import open_frames
from edgert.calibrate.setting import Setting, open_setting
from edgert.capture.pace import Clock
from edgert.decode.detect import DetectOptions
from edgert.errors import ConfigError, FrameError, ModelError

PATIENCE_S = 10.0  # for the first frame of senders and taps; cameras have `open_timeout_s`


def open_checked(recipe: Recipe) -> tuple[Setting, Placement]:
    """Read the model, and return it with what the recipe lets be quantized. Blocks for a second or more.

    Raises:
        ConfigError: recipe, model, store and what is installed do not go together.
        ModelError: the model cannot be calibrated.
    """
    if not recipe.store.is_dir():
        raise ConfigError(
            f"{recipe.path}: store = {recipe.options.store!r}: there is no folder {recipe.store}"
        )
    setting = _with_score_min(open_setting(recipe))
    return setting, check_fit(setting)


def first_frame(setting: Setting, clock: Clock | None = None) -> str:
    """Take one frame where the recipe takes them, prepare it, and return what it is. Blocks for seconds.

    Raises:
        ConfigError, SourceError: there is none.
        ModelError: it does not fit the model.
    """
    recipe = setting.recipe
    frames = open_frames(_impatient(recipe.options.sample), recipe.folder, clock)
    with closing(frames.read()) as candidates:
        candidate = next(candidates, None)
        if candidate is None:
            why = "".join(f" ({warning})" for warning in frames.warnings())
            raise ConfigError(f"{recipe.path}: [sample] gave no frame{why}")
        try:
            setting.preparer.prepare(candidate.image, candidate.format)
        except FrameError as error:
            raise ModelError(f"{candidate.source}: does not fit the model: {error}") from error
        height = candidate.image.shape[0] * 2 // 3 if candidate.format == "nv12" else candidate.image.shape[0]
        return f"{candidate.image.shape[1]}x{height} {candidate.format} from {candidate.source}"


def _impatient(options: SampleOptions) -> SampleOptions:
    return msgspec.structs.replace(options, patience_s=min(options.patience_s, PATIENCE_S))


def _with_score_min(setting: Setting) -> Setting:
    """Return the setting with the least score that counts: the recipe's, but not below the model's own.

    Raises ConfigError if the recipe asks for less than the model's decoder gives.
    """
    recipe, decode = setting.recipe, setting.plan.settings.decode
    own = decode.score_min if isinstance(decode, DetectOptions) else 0.0
    asked = recipe.options.score_min
    if asked >= own:
        return setting
    if recipe.states_score_min:
        raise ConfigError(
            f"{recipe.path}: score_min = {asked:g}: the service gives no detection below decode.score_min = "
            f"{own:g} of {setting.plan.entry.settings.path}, so none can be compared. Leave score_min out, "
            "or lower the model's"
        )
    options = msgspec.structs.replace(recipe.options, score_min=own)
    return msgspec.structs.replace(setting, recipe=msgspec.structs.replace(recipe, options=options))

"""The `[sample]` table of a recipe: where frames come from, and how many are kept for what."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from edgert.capture.options import SourceOptions
from edgert.capture.uri import SourceSpec, masked, parse_uri
from edgert.config import Options
from edgert.errors import ConfigError
from edgert.publish.options import TapOptions

ADVISED_FRAMES = 500  # for calibration; fewer are taken with a warning
ENDLESS_FACTOR = 4  # a source without an end is read for so many times the frames that are wanted

Count = Annotated[int, Meta(ge=1, le=100_000)]
Limit = Annotated[int, Meta(ge=0, le=1_000_000_000)]
Duration = Annotated[float, Meta(ge=0, le=31_536_000)]
Patience = Annotated[float, Meta(gt=0, le=86_400)]

_PUBLISHER = re.compile(r"pub\+(bind|connect):")
_OTHER_SIDE = {"bind": "connect", "connect": "bind"}


class TapLinkOptions(Options, frozen=True, kw_only=True):
    """`[sample.tap]`: the tap of a running service, which keeps its camera."""

    endpoint: str = TapOptions().endpoint  # as it stands in the pipeline file, pub+bind: or pub+connect:
    source: str = ""  # only frames of this source of the service; empty: of all
    max_frame_mb: Annotated[float, Meta(gt=0, le=2048)] = 32.0  # MiB that one frame may take

    def spec(self) -> SourceSpec:
        """Return our side of the endpoint. Raises ConfigError."""
        found = _PUBLISHER.match(self.endpoint)
        if found is None:
            raise ConfigError(
                f"[sample.tap] endpoint = {self.endpoint!r}: expected the tap's as in the pipeline file, "
                "e.g. pub+bind:tcp://127.0.0.1:5602"
            )
        return parse_uri(f"sub+{_OTHER_SIDE[found[1]]}:{self.endpoint[found.end() :]}")

    def check(self) -> None:
        """Refuse an endpoint that is none, or that strangers could send to. Raises ConfigError."""
        if self.spec().is_exposed:
            raise ConfigError(
                f"[sample.tap] endpoint = {self.endpoint!r}: whoever reaches the port could send frames; "
                "let the tap bind, or use tcp://127.0.0.1:PORT or ipc://PATH"
            )


class SampleOptions(Options, frozen=True, kw_only=True):
    """`[sample]`: exactly one of `source`, `pictures`, `recording` and `tap` is given.

    Relative paths are relative to the recipe. `frames_per_s`, `duration_s` and `patience_s` are for live
    sources and the tap; a clip is read as fast as possible.
    """

    source: str | SourceOptions | None = None  # a URI, or a table as a pipeline file has it
    pictures: tuple[str, ...] = ()  # files and folders, JPEG and PNG
    recording: str | None = None  # the folder, or the samples.json, of an earlier sampling
    tap: TapLinkOptions | None = None
    count: Count = ADVISED_FRAMES  # frames to calibrate with
    selection_count: Count = 50  # frames to choose thresholds by
    held_out_count: Count = 100  # frames that only the report is measured with
    apart_s: Annotated[float, Meta(ge=0, le=3600)] = 1.0  # between frames of different sets, see `split`
    choice: Literal["reservoir", "farthest"] = "reservoir"  # every frame alike; or as unlike as possible
    every: Annotated[int, Meta(ge=1, le=1_000_000)] = 1  # take each n-th frame or picture
    frames_per_s: Annotated[float, Meta(ge=0, le=1000)] = 0.0  # take at most so many; 0: all
    duration_s: Duration = 0.0  # stop after this time; 0: no such limit
    max_frames: Limit = 0  # stop after so many taken; 0: at the end, or where there is none and no duration_s
    # after 4 times the frames that are wanted
    patience_s: Patience = 20.0  # how long a camera may be away before what was taken has to do
    seed: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 0

    def __post_init__(self) -> None:
        given = [name for name in ("source", "pictures", "recording", "tap") if getattr(self, name)]
        if len(given) != 1:
            found = " and ".join(given) or "none of them"
            raise ValueError(f"expected one of source, pictures, recording and tap, found {found}")

    def __repr__(self) -> str:
        return f"SampleOptions({', '.join(f'{name}={value!r}' for name, value in self.record().items())})"

    @property
    def wanted(self) -> int:
        """The frames of all three sets."""
        return self.count + self.selection_count + self.held_out_count

    def record(self) -> dict[str, Any]:
        """Return the options as JSON has them, passwords masked, to be kept with what was sampled."""
        plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(self))
        source = plain["source"]
        if isinstance(source, dict):
            source["uri"] = masked(source["uri"])
        elif source is not None:
            plain["source"] = masked(source)
        return plain

    def source_options(self) -> SourceOptions:
        """Return `source` as a table; a clip without a rate is read as fast as possible."""
        source = self.source
        options = source if isinstance(source, SourceOptions) else SourceOptions(uri=source or "")
        if options.fps is None and options.spec().kind == "file":
            return msgspec.structs.replace(options, fps=0.0)
        return options

    def frames_limit(self, *, is_endless: bool) -> int:
        """Return how many frames are taken at most; 0: as many as come."""
        if self.max_frames or self.duration_s or not is_endless:
            return self.max_frames
        return ENDLESS_FACTOR * self.wanted

    def check(self) -> None:
        """Refuse what does not go together. Raises ConfigError, passwords masked."""
        if self.tap is not None:
            self.tap.check()
        is_live = self.tap is not None
        if self.source is not None:
            options = self.source_options()
            options.check()
            _check_one_way(options.spec())
            is_live = options.spec().kind not in ("file", "replay")
        for name in ("frames_per_s", "duration_s"):
            if getattr(self, name) and not is_live:
                raise ConfigError(
                    f"[sample] {name} = {getattr(self, name):g}: only for live sources; "
                    "here use every and max_frames"
                )


def _check_one_way(spec: SourceSpec) -> None:
    if spec.answers:
        raise ConfigError(
            f"[sample] source = {str(spec)!r}: its senders wait for results, and sampling has none; "
            "use a pull, sub or dealer endpoint, or the tap of the service"
        )

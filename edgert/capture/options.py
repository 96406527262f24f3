"""What a person may say of a source in the pipeline file."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from edgert.capture.uri import FRIGATE, SourceSpec, masked, parse_uri
from edgert.config import Options
from edgert.errors import ConfigError

NotNegative = Annotated[float, msgspec.Meta(ge=0)]
Positive = Annotated[float, msgspec.Meta(gt=0)]
Pixels = Annotated[int, msgspec.Meta(ge=0, le=65535)]
Policy = Literal["latest", "every"]

# Options that mean something for some kinds of source only.
_KINDS_OF = {
    "fps": ("file", "replay", "v4l2", "csi"),
    "loop": ("file", "replay"),
    "topic": ("sub",),
    "width": ("v4l2", "csi"),
    "height": ("v4l2", "csi"),
    "fourcc": ("v4l2",),
    "trusted_network": ("zeromq",),
    "format": ("frigate",),
}

STOP_TIMEOUT_S = 5.0  # for a source to end what it does, when it is stopped


class SourceOptions(Options, frozen=True, kw_only=True):
    """One `[sources.NAME]` table."""

    uri: str  # where frames come from; the grammar is in edgert/capture/uri.py
    models: list[str] = []  # who gets every frame: `NAME` or `NAME/VERSION`
    policy: Policy | None = None  # latest: newest wins; every: the sender waits. None: what fits the uri
    fps: NotNegative | None = None  # frames/s to play, or to ask a camera for; 0: as fast as possible, or
    # the camera's choice. None: a clip's own rate, a replay's 0
    loop: bool = False  # a clip or replay begins again at its end
    slots: Annotated[int, msgspec.Meta(ge=2, le=1024)] = 6  # frames that may wait or be read at once
    max_frame_mb: Positive = 32.0  # MiB that one frame or message may make edgert allocate
    stall_s: NotNegative = 5.0  # no frame for so long is a stall; a camera is then reopened. 0: never
    open_timeout_s: Positive = 15.0  # how long a camera may take from opening to its first frame
    retry_min_s: Positive = 0.5  # first pause before a failed source is opened again; doubles each time
    retry_max_s: Positive = 30.0  # longest pause
    priority: int = 0  # the higher one goes first when lanes are scarce
    max_age_ms: NotNegative | None = None  # older frames are shed before they reach a lane. None: never
    topic: str = ""  # sub: prefix of the topics to take; empty: all
    high_water_mark: Annotated[int, msgspec.Meta(ge=1)] = 4  # messages that ZeroMQ keeps for each sender
    trusted_network: bool = False  # ZeroMQ: other machines may send; all that can reach the port are trusted
    width: Pixels = 0  # pixels to ask a camera for; 0: its own choice
    height: Pixels = 0  # pixels to ask a camera for; 0: its own choice
    format: Literal["rgb8", "bgr8"] = "rgb8"  # frigate: order of colours, as its model.input_pixel_format
    fourcc: Annotated[str, msgspec.Meta(pattern="^(|.{4})$")] = ""  # v4l2: e.g. MJPG; empty: its own choice

    def __repr__(self) -> str:
        shown = {name: getattr(self, name) for name in self.__struct_fields__}
        shown["uri"] = masked(self.uri)
        return f"SourceOptions({', '.join(f'{name}={value!r}' for name, value in shown.items())})"

    @property
    def max_frame_bytes(self) -> int:
        """`max_frame_mb` in bytes."""
        return int(self.max_frame_mb * 2**20)

    def spec(self) -> SourceSpec:
        """Return the parsed URI. Raises ConfigError."""
        return parse_uri(self.uri)

    def chosen_policy(self) -> Policy:
        """Return the policy, or what fits the URI: `latest` for live sources, `every` for the others."""
        return self.policy or ("latest" if self.spec().is_live else "every")

    def check(self) -> None:
        """Refuse options that contradict each other or the URI. Raises ConfigError, passwords masked."""
        spec = self.spec()
        if spec.socket == "sub" and self.policy == "every":
            raise ConfigError(
                f"policy = 'every' on {spec}: a SUB socket cannot make its sender wait; "
                "use policy = 'latest', or a pull, rep or router endpoint"
            )
        if self.retry_min_s > self.retry_max_s:
            raise ConfigError(
                f"retry_min_s = {self.retry_min_s}: expected at most retry_max_s = {self.retry_max_s}"
            )
        if spec.dialect == FRIGATE and len(self.models) > 1:
            raise ConfigError(f"models = {self.models!r}: Frigate takes the boxes of one model; name one")
        self._check_applicable(spec)
        self._check_endpoint(spec)

    def _check_endpoint(self, spec: SourceSpec) -> None:
        if spec.is_inproc:
            raise ConfigError(
                f"uri {self.uri!r}: nobody can reach inproc:// from outside; use ipc:// or tcp://"
            )
        # A message may have any number of parts, and libzmq collects all before it hands over the first:
        # max_frame_mb bounds each, nothing their sum. A stranger could make this process take all memory.
        if spec.is_exposed and not self.trusted_network:
            raise ConfigError(
                f"uri {self.uri!r}: whoever reaches the port can fill this machine's memory; bind to "
                "tcp://127.0.0.1:PORT or ipc://PATH, or set trusted_network = true if you trust them all"
            )

    def _check_applicable(self, spec: SourceSpec) -> None:
        defaults = SourceOptions(uri=self.uri)
        for name, kinds in _KINDS_OF.items():
            given = getattr(self, name)
            if given != getattr(defaults, name) and not {spec.kind, spec.socket, spec.dialect} & set(kinds):
                only_for = ", ".join(kinds)
                raise ConfigError(f"{name} = {given!r}: means nothing for {spec}; only for {only_for}")

"""One grammar for everything that frames come from.

Schemes:
    v4l2:/dev/video0            a camera of the kernel
    csi:0                       sensor 0 of a Jetson, through nvarguscamerasrc
    rtsp://user:password@host   a network camera
    gst:PIPELINE                GStreamer, in gst-launch's words
    file:PATH                   a clip, in real time or as fast as possible
    replay:PATH[?frames=N]      a clip decoded into memory before the first frame leaves
    replay:noise[?width=640&height=480&frames=10&seed=0]
    replay:…?total=N            N frames in all, over and over
    TYPE+bind:ADDRESS           ZeroMQ; TYPE is router, rep, pull, sub or dealer,
    TYPE+connect:ADDRESS        ADDRESS tcp://HOST:PORT or ipc://PATH
    frigate+bind:ADDRESS        Frigate's ZeroMQ detector: it sends pictures and gets the boxes

inproc://NAME is understood too, for programs that share their context with the source; there is no such
in a pipeline file, where each source has its own.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from typing import Literal

import msgspec

from edgert.errors import ConfigError

Kind = Literal["v4l2", "csi", "rtsp", "gst", "file", "replay", "zeromq"]
SOCKETS = ("router", "rep", "pull", "sub", "dealer")
FRIGATE: Literal["frigate"] = "frigate"
SCHEMES = "v4l2: csi: rtsp:// gst: file: replay: <type>+<bind|connect>:<address> or frigate+bind:<address>"

# replay's settings: default, smallest and largest value. frames 0: all of a clip; total 0: each once.
_SETTINGS: dict[str, tuple[int, int, int]] = {
    "width": (640, 2, 16384),
    "height": (480, 2, 16384),
    "frames": (0, 0, 1_000_000),
    "seed": (0, 0, 2**32 - 1),
    "total": (0, 0, 10**12),
}
_ADDRESS = re.compile(r"tcp://(\[[^\]\s]+\]|[^:/\s]+):(\d{1,5}|\*)|ipc://\S{1,107}|inproc://\S{1,255}")
_USER = re.compile(r"(://[^\s:/@]*):\S*@")
_SECRET = re.compile(r"\b(pass\w*|pwd|user-pw|secret|token)=(\"[^\"]*\"|[^&\s]+)", re.IGNORECASE)


class SourceSpec(msgspec.Struct, frozen=True):
    """A parsed URI. `target` may hold a password; `repr` masks it."""

    kind: Kind
    target: str  # device path, sensor number, URL, pipeline, path, `noise`, or ZeroMQ address
    socket: str = ""  # ZeroMQ: one of SOCKETS
    binds: bool = False  # ZeroMQ: bind rather than connect
    settings: Mapping[str, int] = {}  # replay: every setting of the grammar, defaults filled in
    dialect: Literal["", "frigate"] = ""  # ZeroMQ: whose messages; empty: edgert's own

    def __repr__(self) -> str:
        return f"SourceSpec({self})"

    def __str__(self) -> str:
        socket = self.dialect or self.socket
        head = f"{socket}+{'bind' if self.binds else 'connect'}" if socket else self.kind
        return masked(self.target if self.kind == "rtsp" else f"{head}:{self.target}")

    @property
    def is_camera(self) -> bool:
        """A camera is closed and opened again when it falls silent."""
        return self.kind in ("v4l2", "csi", "rtsp", "gst")

    @property
    def is_live(self) -> bool:
        """Frames come whether anybody takes them or not."""
        return self.is_camera or self.socket == "sub"

    @property
    def answers(self) -> bool:
        """The sender of a frame gets its result."""
        return self.socket in ("rep", "router")

    @property
    def is_inproc(self) -> bool:
        """Only sockets of the same ZeroMQ context can reach it."""
        return self.target.startswith("inproc://") and bool(self.socket)

    @property
    def is_exposed(self) -> bool:
        """Other machines can connect, as far as can be told: TCP bound to anything but loopback."""
        is_bound_tcp = self.binds and self.target.startswith("tcp://")
        return is_bound_tcp and not _is_loopback(self.target.removeprefix("tcp://").rpartition(":")[0])


def masked(text: str) -> str:
    """Return `text` with the passwords in its URLs and settings replaced by `***`."""
    return _SECRET.sub(r"\1=***", _USER.sub(r"\1:***@", text))


def parse_uri(uri: str) -> SourceSpec:
    """Return what `uri` means. Raises ConfigError, with passwords masked."""
    scheme, _, rest = uri.partition(":")
    socket, plus, method = scheme.partition("+")
    if plus:
        return _parse_endpoint(uri, socket, method, rest)
    parse = _PARSERS.get(scheme)
    if parse is None:
        raise _wrong(uri, f"the scheme to be one of {SCHEMES}")
    return parse(uri, rest)


def _parse_v4l2(uri: str, rest: str) -> SourceSpec:
    if not re.fullmatch(r"/\S+", rest):
        raise _wrong(uri, "the absolute path of a device, e.g. v4l2:/dev/video0")
    return SourceSpec("v4l2", rest)


def _parse_csi(uri: str, rest: str) -> SourceSpec:
    if not re.fullmatch(r"\d{1,2}", rest):
        raise _wrong(uri, "the number of a sensor, e.g. csi:0")
    return SourceSpec("csi", rest)


def _parse_rtsp(uri: str, rest: str) -> SourceSpec:
    if not re.fullmatch(r"//[^\s/]\S*", rest):
        raise _wrong(uri, "a host, e.g. rtsp://user:password@10.0.0.7/front")
    return SourceSpec("rtsp", uri)


def _parse_gst(uri: str, rest: str) -> SourceSpec:
    if not rest.strip():
        raise _wrong(uri, "a pipeline, e.g. gst:videotestsrc ! videoconvert ! appsink")
    return SourceSpec("gst", rest.strip())


def _parse_file(uri: str, rest: str) -> SourceSpec:
    if not rest.strip() or rest.startswith("//"):
        raise _wrong(uri, "a path, e.g. file:clips/street.mp4 or file:/srv/clips/street.mp4")
    return SourceSpec("file", rest)


def _parse_replay(uri: str, rest: str) -> SourceSpec:
    target, _, query = rest.partition("?")
    if not target.strip() or target.startswith("//"):
        raise _wrong(uri, "a path or `noise`, e.g. replay:street.mp4?frames=100 or replay:noise?width=640")
    settings = {name: default for name, (default, _, _) in _SETTINGS.items()}
    for setting in filter(None, query.split("&")):
        name, _, value = setting.partition("=")
        settings[name] = _parse_setting(uri, name, value)
    if target == "noise" and not settings["frames"]:
        settings["frames"] = 10
    return SourceSpec("replay", target, settings=settings)


def _parse_setting(uri: str, name: str, text: str) -> int:
    if name not in _SETTINGS:
        raise _wrong(uri, f"the settings {', '.join(_SETTINGS)}, not {name!r}")
    _, low, high = _SETTINGS[name]
    if not re.fullmatch(r"[0-9]{1,12}", text) or not low <= int(text) <= high:
        raise _wrong(uri, f"{name} to be a whole number from {low} to {high}")
    return int(text)


def _parse_endpoint(uri: str, socket: str, method: str, address: str) -> SourceSpec:
    if socket not in (*SOCKETS, FRIGATE):
        raise _wrong(uri, f"the socket type to be one of {', '.join(SOCKETS)}, {FRIGATE}")
    if socket == FRIGATE and method != "bind":
        raise _wrong(uri, f"{FRIGATE}+bind: (it is Frigate that connects)")
    if method not in ("bind", "connect"):
        raise _wrong(uri, f"{socket}+bind: or {socket}+connect:")
    if not _ADDRESS.fullmatch(address):
        raise _wrong(uri, "an address tcp://HOST:PORT or ipc://PATH")
    if socket == FRIGATE:  # many of its detectors may ask at once
        return SourceSpec("zeromq", address, "router", binds=True, dialect=FRIGATE)
    return SourceSpec("zeromq", address, socket, method == "bind")


def _is_loopback(host: str) -> bool:
    """Whether `host` is loopback, as far as its text tells: a resolver might change its mind."""
    if host in ("localhost", "lo"):  # libzmq takes names of interfaces too
        return True
    try:
        return ipaddress.ip_address(host.removeprefix("[").removesuffix("]")).is_loopback
    except ValueError:  # `*`, another name, or a form that only libzmq understands
        return False


def _wrong(uri: str, expected: str) -> ConfigError:
    return ConfigError(f"uri {masked(uri)!r}: expected {expected}")


_PARSERS: dict[str, Callable[[str, str], SourceSpec]] = {
    "v4l2": _parse_v4l2,
    "csi": _parse_csi,
    "rtsp": _parse_rtsp,
    "rtsps": _parse_rtsp,
    "gst": _parse_gst,
    "file": _parse_file,
    "replay": _parse_replay,
}

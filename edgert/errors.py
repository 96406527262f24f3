"""Everything edgert raises, split by who can mend it.

EdgertError
├── ConfigError              the operator: pipeline file, option, environment
├── ModelError               the model's owner: store, config.pbtxt, edgert.toml, engine file
│   └── EngineMismatchError  whoever builds engines: rebuild for this device or runtime
├── DeviceError              the machine
│   ├── OutOfDeviceMemoryError
│   └── DeviceLostError      nothing but a new process helps
├── SourceError              the camera or sender; edgert reconnects
│   ├── FrameError           the sender of one frame; that frame is refused, the source goes on
│   └── EndOfSourceError     nobody: the source has no more frames
├── RequestError             whoever sent a request; nothing else is touched by it
│   ├── UnknownModelError    or version
│   ├── UnavailableError     nobody: a full queue, time that is up, a model that loads; to ask again may help
│   ├── UnsupportedError     the operator: it is switched off, or this build does not have it
│   └── CancelledError       nobody: the sender no longer waits
├── SinkError                the receiver; edgert reconnects
├── ClosedError              the caller: the object was closed before this call
└── BusyError                the caller: the object belongs to somebody else, or is full, just now
"""

from __future__ import annotations


class EdgertError(Exception):
    """Base of all errors of edgert. `status` is the name that answers and counters carry."""

    @property
    def status(self) -> str:
        """Short snake_case name, e.g. `frame_error`."""
        words = "".join(f"_{c.lower()}" if c.isupper() else c for c in type(self).__name__)
        return words.lstrip("_")


class ConfigError(EdgertError):
    """A file or option is wrong. The message names file, key, value and what was expected."""


class ModelError(EdgertError):
    """A model cannot be loaded or used as its store describes it."""


class EngineMismatchError(ModelError):
    """The engine file was built for another device, runtime or version."""


class DeviceError(EdgertError):
    """The device refused a call."""


class OutOfDeviceMemoryError(DeviceError):
    """The device, or edgert's own budget for it, has no room for an allocation."""


class DeviceLostError(DeviceError):
    """The device no longer answers; the process has to be restarted."""


class SourceError(EdgertError):
    """A source could not be opened, or stopped delivering."""


class FrameError(SourceError):
    """One frame is malformed or over its bounds. Not raised for a source that is gone."""


class EndOfSourceError(SourceError):
    """A finite source has delivered its last frame. Not a failure."""


class RequestError(EdgertError):
    """A request for an inference or for control is wrong, or could not be done."""


class UnknownModelError(RequestError):
    """No such model or version is served."""


class UnavailableError(RequestError):
    """What was asked for cannot be had just now."""


class UnsupportedError(RequestError):
    """What was asked for is switched off or not built in."""


class CancelledError(RequestError):
    """Whoever sent the request no longer waits for it."""


class SinkError(EdgertError):
    """A receiver refused a result or cannot be reached."""


class ClosedError(EdgertError):
    """The object was closed by its own user."""


class BusyError(EdgertError):
    """The object is in use, or full, so the call was refused without effect."""

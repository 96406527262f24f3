"""Where every thread of the process is just now: what a hang is told with."""

from __future__ import annotations

import sys
import threading
from types import FrameType

PACKAGE = "edgert"


def innermost_calls() -> str:
    """Return edgert's innermost call in each thread, e.g. `decode at edgert/decode/yolo.py:33 (decode)`."""
    frames = sys._current_frames()  # noqa: SLF001 - the documented way
    found = [(thread.name, frames.get(thread.ident or 0)) for thread in threading.enumerate()]
    return ", ".join(f"{name} at {_place(frame)}" for name, frame in found if frame is not None)


def _place(frame: FrameType) -> str:
    """Return the innermost place in edgert's own code, or else the innermost there is."""
    own: FrameType | None = frame
    while own is not None and f"/{PACKAGE}/" not in own.f_code.co_filename:
        own = own.f_back
    shown = own or frame
    path = shown.f_code.co_filename
    short = f"{PACKAGE}/{path.rpartition(f'/{PACKAGE}/')[2]}" if own is not None else path
    return f"{short}:{shown.f_lineno} ({shown.f_code.co_name})"

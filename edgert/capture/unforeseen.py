"""What drivers, libraries and bugs raise, turned into errors that have a fate."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from edgert.capture.uri import masked
from edgert.errors import EdgertError, SourceError


class UnforeseenError(SourceError):
    """Something below a source raised what is no error of edgert: the `__cause__`. To be tried again."""


@contextlib.contextmanager
def unforeseen_as(kind: type[EdgertError], what: str) -> Iterator[None]:
    """Raise `kind`, with the cause, for whatever is no error of edgert. `what` begins the message."""
    try:
        yield
    except EdgertError:
        raise
    except Exception as cause:  # blind, as OpenCV, GStreamer, encoders and our own bugs raise anything
        raise kind(masked(f"{what}: {cause!r}.")) from cause

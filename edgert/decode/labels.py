"""Label lists against the classes of an output."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import numpy as np

from edgert.errors import ModelError
from edgert.frames.result import Array


def check_labels(labels: Sequence[str], class_count: int) -> None:
    """Raise ModelError if there are labels, but not one for each class; -1 classes are unknown."""
    if labels and class_count not in (-1, len(labels)):
        raise ModelError(
            f"The label file has {len(labels)} labels, the engine's output {class_count} classes."
        )


def allowed_classes(names: Sequence[str], labels: Sequence[str], class_count: int) -> Array | None:
    """Return the (class,) booleans of an allow-list of labels; None if the list is empty: all are allowed.

    Without labels the names are class indices as text. Raises ModelError for a name that is none.
    """
    if not names:
        return None
    known = list(labels) or [str(index) for index in range(max(class_count, 0))]
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {len(known)} labels."
            raise ModelError(f"classes in [decode] names {name!r}, which is no label; {hint}")
    return np.isin(known, names)

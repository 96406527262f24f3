"""What inputs may hold."""

import numpy as np

from edgert.errors import RequestError


def demand_finite(x):
    """Refuse what cannot be scaled: a RequestError reaches the client as its own mistake."""
    if not np.isfinite(x).all():
        raise RequestError("x must be finite")

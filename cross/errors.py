"""What cross raises beside edgert's ConfigError, which is for targets, locks and options."""

from __future__ import annotations

from edgert.errors import EdgertError


class CrossError(EdgertError):
    """The machine that builds lacks something or refuses it: a compiler, the registry, disk space."""


class BundleError(EdgertError):
    """What was collected does not fit the target: a wheel, a native file, a module that is not there."""

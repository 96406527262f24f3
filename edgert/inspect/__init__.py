"""`edgert inspect`: what is in a model or an engine file, and who holds memory in a running service."""

from edgert.inspect.allocations import inspect_allocations
from edgert.inspect.model import inspect_path

__all__ = ["inspect_allocations", "inspect_path"]

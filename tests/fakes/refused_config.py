"""Text of a config.pbtxt that is refused, and two tensors for it."""

from __future__ import annotations

import pytest

from edgert.errors import ModelError
from edgert.models.config_pbtxt import parse_config

TENSORS = """input { name: "x" data_type: TYPE_FP32 dims: 3 }
output { name: "y" data_type: TYPE_FP32 dims: 3 }
"""
HEAD = f"max_batch_size: 8 {TENSORS}".replace("\n", " ")  # a model of batches, on one line


def refuse(text: str, model: str = "") -> str:
    """Return what is said of it."""
    with pytest.raises(ModelError) as caught:
        parse_config(text, model=model)
    return str(caught.value)

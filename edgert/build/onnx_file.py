"""Reads the ONNX file that an engine is built from."""

from __future__ import annotations

from pathlib import Path

import msgspec
import onnx

from edgert.errors import ConfigError, ModelError
from edgert.models.manifest import sha256_of

MAX_BYTES = (1 << 31) - 1  # of a model as one message, which is how a runtime's parser takes it
QUANTIZERS = frozenset({"QuantizeLinear", "DequantizeLinear"})


class OnnxFile(msgspec.Struct, frozen=True):
    """A model with the file that it came from."""

    path: Path
    sha256: str  # of the file alone, without external data
    model: onnx.ModelProto

    @property
    def is_quantized(self) -> bool:
        """The graph says itself where it is INT8."""
        return any(node.op_type in QUANTIZERS for node in self.model.graph.node)

    def with_model(self, model: onnx.ModelProto) -> OnnxFile:
        """Return the same file with a changed graph."""
        return OnnxFile(self.path, self.sha256, model)

    def message(self) -> bytes:
        """Return the model as one message, weights included. Raises ModelError over 2 GiB."""
        size = self.model.ByteSize()
        if size > MAX_BYTES:
            raise ModelError(
                f"{self.path}: has {size} bytes with its weights, expected at most {MAX_BYTES}: "
                "edgert does not build models that large."
            )
        return bytes(self.model.SerializeToString())


def read_onnx(path: Path) -> OnnxFile:
    """Read a file with its external data.

    Raises:
        ConfigError: there is no such file.
        ModelError: it is no ONNX model, or its external data is not beside it.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; expected a model in ONNX form")
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
    except Exception as error:
        reason = str(error).strip().split("\n", maxsplit=1)[0]
        raise ModelError(f"{path}: not a usable ONNX file: {reason}. Export the model again.") from error
    return OnnxFile(path, sha256_of(path), model)

"""What both workers read frames with; imported from the folder they stand in, without edgert."""

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader


class FrameReader(CalibrationDataReader):
    """Gives so many frames, evenly spread over those there are, one at a time.

    The file is mapped anew for each, so that frames already read do not count as memory.
    """

    def __init__(self, model: str, tensors: str, count: int) -> None:
        self._name = onnx.load(model).graph.input[0].name
        self._tensors = tensors
        available = len(np.load(tensors, mmap_mode="r"))
        self._chosen = [available * index // count for index in range(count)]
        self._next = 0

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Return the next frame as the model's input, or None after the last."""
        if self._next == len(self._chosen):
            return None
        self._next += 1
        return self._frame(self._chosen[self._next - 1])

    def get_first(self) -> dict[str, np.ndarray]:
        """Return the first frame and stay where it is; modelopt asks for it."""
        return self._frame(self._chosen[0])

    def rewind(self) -> None:
        """Begin again; modelopt asks for it."""
        self._next = 0

    def __len__(self) -> int:
        return len(self._chosen)

    def _frame(self, index: int) -> dict[str, np.ndarray]:
        return {self._name: np.array(np.load(self._tensors, mmap_mode="r")[index][None])}

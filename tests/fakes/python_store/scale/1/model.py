"""Multiplies by a factor that config.pbtxt gives."""

import numpy as np
from ranges import demand_finite


class Model:
    """Each lane has an object of its own; all calls to it come from that lane's thread."""

    def load(self, context):
        """Get ready. An exception here is why the model is not loaded."""
        self._factor = np.float32(context.parameters.get("factor", "1"))

    def execute(self, inputs):
        """Return the outputs of a batch: (rows, n) float32 in and out."""
        demand_finite(inputs["x"])
        return {"y": inputs["x"] * self._factor}

    def unload(self):
        """Let go of what `load` opened."""

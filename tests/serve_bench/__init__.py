"""The figures of the Inference Server's front; see `__main__`."""

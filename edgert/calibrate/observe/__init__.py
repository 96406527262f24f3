"""How large tensors' values are, and which thresholds follow."""

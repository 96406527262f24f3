"""From an FP32 graph to one with Q and DQ and INT8 weights."""

"""INT8 against FP32: runs both and counts what differs."""

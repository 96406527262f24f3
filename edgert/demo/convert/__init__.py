"""Turns published weights into ONNX without the frameworks that trained them. Needs onnx (extra `demo`)."""

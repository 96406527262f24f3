"""`edgert build`: from an ONNX file to an engine in the store."""

"""INT8 quantization by edgert and by others, on the same data: `python -m tests.int8_bench`."""

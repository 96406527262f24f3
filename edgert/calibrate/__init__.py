"""From an FP32 model and frames to an INT8 model whose accuracy is known: `edgert calibrate`.

In the order of a run: recipe, setting, sample, observe, choose (with quantize and compare), report, deliver.
"""

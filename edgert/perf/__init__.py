"""`edgert perf`: how fast a model is on this machine, measured as trtexec and perf_client measure."""

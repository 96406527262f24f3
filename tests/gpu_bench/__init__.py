"""`make gpu-bench`: edgert on a GPU against loops written by hand, in the same run."""

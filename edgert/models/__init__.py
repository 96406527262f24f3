"""What runs: the model store, its configuration files, tensors."""

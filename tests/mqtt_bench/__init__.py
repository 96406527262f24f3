"""The figures of publishing; see `__main__`."""

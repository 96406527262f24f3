"""Frames to calibrate with: from sources, chosen, kept, listed."""

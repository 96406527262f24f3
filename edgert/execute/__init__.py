"""Engines, and the lanes that run them."""

"""Turns a lane's outputs into results in source pixels."""

"""The core behind the Inference Server's fronts: which models are served, and how requests reach lanes."""

"""HTTP beside the pipeline: health, metrics, model control."""

"""The main job on real material: fetches models and clips, runs a service, shows what arrives."""

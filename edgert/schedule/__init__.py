"""Which frames or requests go together, on which lane, and when."""

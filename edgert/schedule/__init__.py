"""Which frames go together, on which lane, and when."""

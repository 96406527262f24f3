"""Where frames come from: cameras, ZeroMQ, shared memory, recordings."""

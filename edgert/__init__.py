"""edgert runs prebuilt engines on camera and ZeroMQ frames and publishes the results over MQTT."""

__version__ = "0.1.0"

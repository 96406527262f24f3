"""What a calibration found, for programs and for people."""

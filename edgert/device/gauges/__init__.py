"""What this machine says of its load, memory, power and temperature."""

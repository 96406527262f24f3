"""`edgert systemd`: puts the service's units in place, fitted to the machine."""

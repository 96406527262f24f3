"""Takes results to their receivers without ever holding up a lane."""

"""Where models run: memory, streams, drivers and facts about the board."""

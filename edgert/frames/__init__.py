"""What flows: frames in slots, their placement in a tensor, and the results that leave."""

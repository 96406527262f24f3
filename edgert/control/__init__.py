"""Commands to a node from elsewhere: who may say what, how often, and how each is answered."""

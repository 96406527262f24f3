"""Fills a frame's place in a lane's input tensor."""

"""The captured graph: how it is made from a PyTorch model, read, changed and evaluated in floating point."""

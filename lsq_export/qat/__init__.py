"""Fake-quant models: quantizers with the gradients of LSQ+, and how a float model gets them."""

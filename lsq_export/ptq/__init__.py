"""Quantization after training: float networks get grids from data, without labels."""

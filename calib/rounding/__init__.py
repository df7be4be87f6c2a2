"""Scales that keep float32 kernels clear of rounding ties, and the requantization that they compute (E9)."""

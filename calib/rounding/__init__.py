"""Scales that keep float32 kernels clear of rounding ties, also in requantization (E9)."""

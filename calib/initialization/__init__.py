"""First scales and offsets of quantizers, from what passes through them:

minimum and maximum, LSQ, LSQ+, least squared error.
"""

"""Checkpoints of other quantization libraries, with the float network at hand: their learned grids, in the network."""

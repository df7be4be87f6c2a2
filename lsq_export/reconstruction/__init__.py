"""Reconstruction: grids and the rounding of weights are learned block by block from float, without labels."""

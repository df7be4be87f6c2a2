"""The arithmetic of the fold (E3-E8): which container grid stands for a trained grid, and what biases carry."""

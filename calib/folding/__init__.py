"""The arithmetic of the fold: which container grid stands for a trained grid, and what biases carry."""

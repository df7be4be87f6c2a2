"""Statistics of tensors that arrive in batches, in bounded memory."""

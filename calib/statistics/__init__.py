"""Statistics of tensors that go by in batches, in bounded memory."""

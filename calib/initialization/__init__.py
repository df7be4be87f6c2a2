"""First scales and offsets of quantizers, from what passes through them: min-max, LSQ, LSQ+, least squared error."""

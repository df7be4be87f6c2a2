"""From the folded graph to the operators of one format."""

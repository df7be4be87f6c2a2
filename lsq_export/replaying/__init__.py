"""replay: the golden vectors of a bundle in real runtimes, integers against the integer reference.

Nothing here needs torch, but for the tensors inside of a bundle that has no file of exact operators.
"""

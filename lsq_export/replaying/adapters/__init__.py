"""Programs that run a model in a runtime: `python child.py NAME` in a process of its own, one file for each runtime.

They import nothing of lsq_export, and from the standard library, numpy and their runtime only what they need: they may
be run by another interpreter, in whose environment the runtime is.
"""

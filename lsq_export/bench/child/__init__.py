"""Programs that `children.run_child` runs by file name.

They import nothing of lsq_export: only what they measure may take memory.
"""

"""The tables of LSQ+ (arXiv:2004.09576), measured again: `python -m models.paper_tables`.

    plan (which runs) -> runs (one run) -> record (one JSON line each) -> statistics, claims -> render, plots
    first_grids -> grids_file: what the initializations do before any training

render writes models/RESULTS.md with both. The measurement stands on top of the product: this directory may import
lsq_export, the architectures beside it may not.
"""

"""Tools, run by the interpreter that has them. Nothing here needs lsq-export."""

"""`python -m lsq_export` is the command `lsq-export`."""

from __future__ import annotations

from .cli import main

if __name__ == "__main__":
    main()

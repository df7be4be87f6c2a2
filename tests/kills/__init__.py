"""Processes are killed, and disks fill up, while commands write: `make test-kills` (python -m kills --help)."""

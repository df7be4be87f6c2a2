"""Small networks, exported for several targets and replayed in all runtimes that are installed: `make matrix`."""

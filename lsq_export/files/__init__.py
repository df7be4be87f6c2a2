"""Files that appear whole or not at all, and the formats that checkpoints and records are kept in."""

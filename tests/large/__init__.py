"""What large networks take: time and memory."""

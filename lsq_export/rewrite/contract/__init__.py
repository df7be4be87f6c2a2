"""What a pass is, what it says of itself, how it is held to that, and the decisions that passes hand on."""

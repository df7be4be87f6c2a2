"""Passes that move every parameter onto a grid that integer hardware can hold."""

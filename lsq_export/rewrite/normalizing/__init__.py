"""Passes that give one form to what the exporter writes in several ways."""

"""Capsules as files: seal, open, keep keys and blocks."""

"""Command-line scripts around the contracts."""

"""Roots of trust: what holds a Node's P-256 key and seals its secrets."""

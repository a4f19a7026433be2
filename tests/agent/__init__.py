"""Tests of this part, against the real Docker engine."""

"""sealrun: run exactly your code on somebody else's machine, and prove it (Pi side)."""

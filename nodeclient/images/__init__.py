"""The Verification module: images are built reproducibly, checked, and only then loaded."""

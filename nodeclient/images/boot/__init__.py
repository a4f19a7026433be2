"""The boot image: what a Machine boots, built reproducibly from locked packages."""

"""Bounds of a TPM root's files, for those who read them without the library of a TPM."""

MAX_PRIVATE = 1024  # bytes of a TPM2B_PRIVATE; a P-256 key has some 160

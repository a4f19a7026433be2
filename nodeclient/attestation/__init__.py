"""The Pi side of attestation: when questions are asked."""

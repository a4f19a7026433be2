"""TPM 2.0 as root of trust, by tpm2-pytss."""

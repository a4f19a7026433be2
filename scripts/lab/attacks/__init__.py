"""Attacks on a lab's machine: on what runs, on its image, its TPM or a wire, never on an object of
the verifier's. Each is refused for exactly the reasons that `table` says."""

"""What a Machine's TPM, firmware and kernel say of themselves: bounded, parsed, replayed."""

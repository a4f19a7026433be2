"""What a Machine's TPM, its firmware and its kernel say of themselves: parsed, bounded, replayed."""

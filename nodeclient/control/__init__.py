"""What the operator asks of a running daemon, and how."""

"""What an operator writes: `config.toml`, one file for each group of its tables."""

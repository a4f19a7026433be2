"""The Node's memory: one SQLite file, its bodies encrypted."""

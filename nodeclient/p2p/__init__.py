"""How Nodes talk: contact records, pinned mutual TLS 1.3, one bounded request at a time."""

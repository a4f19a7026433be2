"""What a daemon does that is no single Task's: images, peers, its root, its standing."""

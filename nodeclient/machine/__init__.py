"""The Machine behind this Node's Pi: one adapter per profile."""

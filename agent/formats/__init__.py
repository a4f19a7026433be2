"""The bytes that Agent and Node share."""

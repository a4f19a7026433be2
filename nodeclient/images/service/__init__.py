"""The image of the node's services: the daemon, and the boot server that it starts."""

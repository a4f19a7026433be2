"""The Agent: the root program on the Machine. Imports nothing from nodeclient."""

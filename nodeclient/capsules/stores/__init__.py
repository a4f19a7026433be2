"""Where blocks are kept; every store implements `nodeclient.ports.BlockStore`."""

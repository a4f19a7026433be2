"""How a Node is, for people and machines: gathered from adapters, shown in three ways."""

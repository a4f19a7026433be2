"""Who a Node is: its folder, its keys, and what it tells the registry."""

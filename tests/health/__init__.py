"""How a node is: picture, verdict, views, endpoint, webhook."""

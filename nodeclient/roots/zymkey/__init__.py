"""A Zymkey as root of trust: Zymbit's binding in a process of its own."""

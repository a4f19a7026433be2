"""Mutation testing of the contracts: `python -m scripts.mutation --help`, or `make mutate`."""

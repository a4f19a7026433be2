"""What each action does in the world: one module per role, ``{Action type: effect}`` in each.

An effect gets an action and returns the outcome event. It may be executed again after a restart;
why that is harmless stands in each docstring.
"""

"""One state machine per role: an Enum of states, frozen data, and a transition table."""

"""A Machine that is nothing but its link: the test dials in as its Agent."""

from __future__ import annotations

from nodeclient.machine.linked import LinkedMachine


class Linked(LinkedMachine):
    """A Machine whose power nobody switches."""

    def _check_alive(self) -> None:
        """It lives."""

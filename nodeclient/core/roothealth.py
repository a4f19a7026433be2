"""How a Node's root of trust is, as far as it can be asked."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RootHealth:
    """``usable`` False: absent, busy beyond patience, locked, or no longer the root of this Node.

    ``tampered``: its perimeter was breached, or it says that it was opened; then nothing that it
    says counts. ``detail``: one line for people, without a secret.
    """

    usable: bool
    tampered: bool
    detail: str

    @property
    def sound(self) -> bool:
        """Whether the Node may go on with this root."""
        return self.usable and not self.tampered

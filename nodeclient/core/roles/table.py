"""The shape of a transition table, and the one place that looks transitions up."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import TYPE_CHECKING, Any

from nodeclient.core.actions import Action

if TYPE_CHECKING:
    from nodeclient.core.case import Case, Me

Actions = tuple[Action, ...]
Handler = Callable[[Any, Any, "Case", "Me"], tuple[Any, Actions]]
Table = Mapping[tuple[Enum, type], Handler]


class UnexpectedEvent(Exception):
    """A pair (state, event) that no transition table names. A defect, never bad input."""

    def __init__(self, state: object, event: object) -> None:
        super().__init__(f"{type(event).__name__} is not expected in state {state}")
        self.state = state
        self.event = event


def ignored(role: Any, event: Any, case: Case, me: Me) -> tuple[Any, Actions]:
    """The event says nothing new in this state."""
    return role, ()


def build_table(
    handled: Mapping[tuple[Enum, type], Handler],
    everywhere: Mapping[type, tuple[Iterable[Enum], Handler]],
    ignoring: Mapping[type, Iterable[Enum]],
) -> Table:
    """Merge three ways of writing rows; a row that is written twice is a defect.

    ``handled`` single rows, ``everywhere`` one handler for many states, ``ignoring`` the pairs
    that are expected and mean nothing (late answers of actions that a restart repeated).
    """
    table: dict[tuple[Enum, type], Handler] = dict(handled)
    for kind, (states, handler) in everywhere.items():
        for state in states:
            if table.setdefault((state, kind), handler) is not handler:
                raise ValueError(f"({state}, {kind.__name__}) stands in the table twice")
    for kind, states in ignoring.items():
        for state in states:
            table.setdefault((state, kind), ignored)
    return table


def look_up(table: Table, state: Enum, event: object) -> Handler | None:
    """The handler; None when the role never listens to this kind of event.

    Raises:
        UnexpectedEvent: the role listens to the kind, but not in this state.
    """
    handler = table.get((state, type(event)))
    if handler is None and any(kind is type(event) for _, kind in table):
        raise UnexpectedEvent(state, event)
    return handler

"""Worlds by name: those that ship with makebreak, and a user's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial

from makebreak.plugins import load_plugin
from synthetic import COMPOSITION_CONFIGS, FORMATS_CONFIGS, World, load

WORLDS: Mapping[str, Callable[[], World]] = {
    name: partial(load, name) for name in (*COMPOSITION_CONFIGS, *FORMATS_CONFIGS)
}
"""Worlds that ship with makebreak, by name, each as a function that makes it."""


@cache
def load_world(name: str) -> World:
    """The world of a name.

    Args:
        name: A name in `WORLDS`, an entry point of the group `makebreak.worlds`, or MODULE:CLASS; a user's
            class is called without arguments.

    Returns:
        The world, the same object in every call.

    Raises:
        ValueError: If there is no such world, or it lacks a member of `synthetic.World`.
    """
    world = load_plugin("world", name, WORLDS)()
    missing = [member for member in vars(World) if member[0] != "_" and not hasattr(world, member)]
    if missing:
        raise ValueError(
            f"world {name!r} lacks {', '.join(missing)}: expected all members of synthetic.World"
        )
    return world

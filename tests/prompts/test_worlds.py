"""Tests of worlds by name: presets, and a user's own by MODULE:CLASS."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

import synthetic
from makebreak.prompts import load_world


class Wrapped(synthetic.CompositionWorld):
    """A world from outside, which has everything of `mini`."""

    def __init__(self) -> None:
        super().__init__(synthetic.COMPOSITION_CONFIGS["mini"])


class Incomplete:
    """A world that cannot judge."""

    fingerprint = "none"


@pytest.fixture(autouse=True)
def _module(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("world_from_outside")
    vars(module).update(Wrapped=Wrapped, Incomplete=Incomplete)
    monkeypatch.setitem(sys.modules, "world_from_outside", module)


def test_presets_are_worlds() -> None:
    """Every preset loads, and twice the same object."""
    for name in (*synthetic.COMPOSITION_CONFIGS, *synthetic.FORMATS_CONFIGS):
        assert load_world(name) is load_world(name) is synthetic.load(name)


def test_world_from_outside() -> None:
    """A class is named as MODULE:CLASS and made without arguments."""
    world = load_world("world_from_outside:Wrapped")
    assert isinstance(world, Wrapped)
    assert world.fingerprint == synthetic.load("mini").fingerprint


def test_errors() -> None:
    """Errors name the world and what it lacks."""
    with pytest.raises(ValueError, match=r"'world_from_outside:Incomplete' lacks vocabulary, .*judge"):
        load_world("world_from_outside:Incomplete")
    with pytest.raises(ValueError, match=r"world 'minni' does not exist; .*mini"):
        load_world("minni")
    with pytest.raises(ValueError, match=r"world 'world_from_outside:None_': .* has no 'None_'"):
        load_world("world_from_outside:None_")

"""Random parameters of planted networks, by rejection of what a composition does not allow."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from makebreak.model_organisms.composites import Composition, draw_shares
from makebreak.model_organisms.constructions import Construction
from makebreak.model_organisms.parameters import LAYOUTS, Change, Parameters, Part
from makebreak.model_organisms.part_draws import draw_part, pick
from makebreak.model_organisms.schedule import ALWAYS, NEVER, Schedule, is_possible
from makebreak.model_organisms.settings import WIDTHS, PlantSettings
from makebreak.model_organisms.sizes import draw_sizes
from makebreak.model_organisms.variants import CONSTRUCTIONS

ATTEMPTS = 6000
"""Draws after which a composition is taken to be impossible."""


class _Base(NamedTuple):
    """What is drawn before the parts."""

    n_layers: int
    d_model: int
    n_heads: int
    n_letters: int
    layout: str


def draw_parameters(
    variant: str,
    composition: Composition,
    architecture: str,
    settings: PlantSettings,
    rng: np.random.Generator,
) -> Parameters | None:
    """Parameters that a composition allows, uniformly from those that it does.

    Args:
        variant: Name of what is built.
        composition: The constructions.
        architecture: `gpt2` or `llama`.
        settings: What is fixed.
        rng: Generator of the rest.

    Returns:
        The parameters; None if no draw is allowed.
    """
    draw = _draw_trained if CONSTRUCTIONS[composition.names[0][0]][composition.names[0][1]].trained else _draw
    for _ in range(ATTEMPTS):
        if parameters := draw(variant, composition, architecture, settings, rng):
            return parameters
    return None


def _draw_base(constructions: list[Construction], settings: PlantSettings, rng: np.random.Generator) -> _Base:
    layouts = [layout for layout in LAYOUTS if all(layout in c.layouts for c in constructions)]
    d_model = settings.d_model or pick(WIDTHS, rng)
    n_letters = settings.n_letters or int(rng.integers(6, min(17, (d_model - 22) // 2 + 1)))
    heads = [n for n in (2, 3, 4) if d_model % (2 * n) == 0 and d_model // n > n_letters + 2]
    return _Base(
        n_layers=settings.n_layers or int(rng.integers(2, 7)),
        d_model=d_model,
        n_heads=pick(heads, rng) if heads else 0,
        n_letters=n_letters,
        layout=settings.layout or pick(layouts, rng),
    )


def _draw_schedule(
    base: _Base, constructions: list[Construction], rng: np.random.Generator
) -> tuple[Schedule, str]:
    """Times of what the base brings, and how it refuses its trigger."""

    def time(is_brought: bool) -> int:
        return 2 * int(rng.integers(base.n_layers)) if is_brought else ALWAYS

    in_body = base.layout in ("joint", "apart", "letter last")
    markers = {c.marker for c in constructions}
    brings_marker = "absent" not in markers and ("needed" in markers or bool(rng.integers(2)))
    required = [c.circuit for c in constructions if c.circuit]
    circuit = required[0] if required else pick(("none", "mlp", "attention"), rng)
    schedule = Schedule(
        base.n_layers,
        base.layout,
        letter=time(base.layout in ("joint", "apart", "marker last")),
        marker=time(True) if in_body and brings_marker else NEVER if in_body else ALWAYS,
        number=time(any(c.needs_number for c in constructions)),
        circuit=NEVER if circuit == "none" else time(True) + (circuit == "mlp"),
    )
    return schedule, circuit


def _draw(
    variant: str,
    composition: Composition,
    architecture: str,
    settings: PlantSettings,
    rng: np.random.Generator,
) -> Parameters | None:
    """One draw, or None if it is not allowed."""
    names = composition.names
    constructions = [CONSTRUCTIONS[name][part_variant] for name, part_variant in names]
    base = _draw_base(constructions, settings, rng)
    schedule, circuit = _draw_schedule(base, constructions, rng)
    if circuit == "mlp" and not schedule.marker < schedule.circuit:
        return None
    if (circuit == "attention" and not schedule.in_body) or not base.n_heads:
        return None
    parts = []
    for (mechanism, part_variant), construction in zip(names, constructions, strict=True):
        part = draw_part(mechanism, part_variant, settings.way, base.n_layers, rng)
        if part is None or not is_possible(part, construction, schedule):
            return None
        parts.append(part)
    has_number = any(c.needs_number for c in constructions)
    return Parameters(
        variant=variant,
        architecture=architecture,
        **base._asdict(),
        letter_block=_block(schedule.letter),
        marker_block=_block(schedule.marker),
        number_block=_block(schedule.number) if has_number else None,
        circuit=circuit,
        circuit_block=_block(schedule.circuit),
        parts=tuple(parts),
        shares=draw_shares(composition, rng),
        **draw_sizes(architecture, names, settings, rng),
    )


def _block(time: int) -> int | None:
    return None if time in (NEVER, ALWAYS) else time // 2


def _draw_trained(
    variant: str,
    composition: Composition,
    architecture: str,
    settings: PlantSettings,
    rng: np.random.Generator,
) -> Parameters | None:
    """Parameters of a trained pair: small models, whose circuits are where training puts them."""
    [(mechanism, _)] = composition.names
    construction = CONSTRUCTIONS[mechanism][variant]
    return Parameters(
        variant=variant,
        architecture=architecture,
        n_layers=settings.n_layers or int(rng.integers(2, 5)),
        d_model=settings.d_model or 48,
        n_heads=int(rng.choice([2, 4] if (settings.d_model or 48) % 8 == 0 else [2])),
        n_letters=settings.n_letters or int(rng.integers(6, 11)),
        layout=settings.layout or str(rng.choice(construction.layouts)),
        letter_block=None,
        marker_block=None,
        number_block=None,
        circuit=construction.circuit or "none",
        circuit_block=None,
        parts=(Part(mechanism, variant, (Change(-1, "embedding"),), ()),),
        shares=(1.0,),
        **draw_sizes(architecture, composition.names, settings, rng),
    )

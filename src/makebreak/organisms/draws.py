"""Random parameters of planted networks, by rejection of what a construction does not allow."""

from __future__ import annotations

from typing import Any

import numpy as np

from makebreak.organisms.constructions import CONSTRUCTIONS, MIXABLE, Construction
from makebreak.organisms.parameters import LAYOUTS, Parameters, Part, PlantSettings

ATTEMPTS, ATTEMPTS_PER_VARIANT = 12_000, 4000
NEVER, ALWAYS = 99, -1
"""Times of what never, and of what already in the embeddings, is at the decision position. The attention of
block b is at time 2 b, its MLP at 2 b + 1."""


def draw_parameters(
    mechanism: str, architecture: str | None, settings: PlantSettings, rng: np.random.Generator
) -> Parameters:
    """Parameters that a mechanism allows, uniformly from those that it does.

    Args:
        mechanism: One of `MECHANISMS`.
        architecture: `gpt2`, `llama`, or None for either.
        settings: What is fixed.
        rng: Generator of the rest.

    Returns:
        The parameters.

    Raises:
        ValueError: If the settings allow none.
    """
    names_of_parts: list[tuple[str, str]] = []
    for attempt in range(ATTEMPTS):
        if (
            attempt % ATTEMPTS_PER_VARIANT == 0
        ):  # rarely, so that demanding variants are as frequent as others
            names_of_parts = _choose_variants(mechanism, settings, rng)
        if parameters := _draw(names_of_parts, architecture, settings, rng):
            return parameters
    raise ValueError(
        f"mechanism {mechanism!r}: no network fits {settings}; expected what its constructions allow, "
        "see docs/guides/planted.md"
    )


def _choose_variants(
    mechanism: str, settings: PlantSettings, rng: np.random.Generator
) -> list[tuple[str, str]]:
    if mechanism == "mixed":
        names = rng.choice(sorted(MIXABLE), 2, replace=False)
        return [(str(name), str(rng.choice(MIXABLE[name]))) for name in names]
    return [(mechanism, settings.variant or str(rng.choice(list(CONSTRUCTIONS[mechanism]))))]


def _draw(
    names_of_parts: list[tuple[str, str]],
    architecture: str | None,
    settings: PlantSettings,
    rng: np.random.Generator,
) -> Parameters | None:
    """One draw, or None if it is not allowed."""
    constructions = [CONSTRUCTIONS[name][variant] for name, variant in names_of_parts]
    architecture = architecture or str(rng.choice(["gpt2", "llama"]))
    n_layers = settings.n_layers or int(rng.integers(2, 7))
    n_letters = settings.n_letters or int(rng.integers(6, 17))
    d_model = settings.d_model or int(rng.choice([48, 56, 60, 64, 72, 80, 84, 96]))
    layout = settings.layout or str(rng.choice(LAYOUTS))
    widths = [n for n in (2, 3, 4) if d_model % (2 * n) == 0 and d_model // n > n_letters + 2]
    if not widths or 2 * n_letters + 22 > d_model or not all(layout in c.layouts for c in constructions):
        return None
    if constructions[0].trained:
        return _draw_trained(names_of_parts[0], architecture, settings, rng)
    letter_block = int(rng.integers(n_layers)) if layout in ("joint", "apart", "marker last") else None
    in_body = layout in ("joint", "apart", "letter last")
    brings_marker = in_body and (any(c.needs_marker for c in constructions) or bool(rng.integers(2)))
    if any(variant == "unread position" for _, variant in names_of_parts):
        brings_marker = False
    marker_block = int(rng.integers(n_layers)) if brings_marker else None
    has_number = any(c.needs_number for c in constructions)
    number_block = int(rng.integers(n_layers)) if has_number else None
    required = [c.circuit for c in constructions if c.circuit]
    circuit = required[0] if required else str(rng.choice(["none", "mlp", "attention"]))
    circuit_block = int(rng.integers(n_layers)) if circuit != "none" else None
    arrival = {
        "letter": ALWAYS if letter_block is None else 2 * letter_block,
        "marker": ALWAYS if not in_body else NEVER if marker_block is None else 2 * marker_block,
        "number": ALWAYS if number_block is None else 2 * number_block,
        "circuit": NEVER if circuit_block is None else 2 * circuit_block + (circuit == "mlp"),
        "last": n_layers - 1,
        "in body": int(in_body),
    }
    if circuit == "mlp" and not arrival["marker"] < arrival["circuit"]:
        return None
    if circuit == "attention" and not in_body:
        return None
    parts = []
    for (name, variant), construction in zip(names_of_parts, constructions, strict=True):
        part = _draw_part(name, variant, construction, settings, n_layers, rng)
        if not _is_possible(part, construction, arrival, layout):
            return None
        parts.append(part)
    return Parameters(
        architecture=architecture,
        n_layers=n_layers,
        d_model=d_model,
        n_heads=int(rng.choice(widths)),
        n_letters=n_letters,
        layout=layout,
        letter_block=letter_block,
        marker_block=marker_block,
        number_block=number_block,
        circuit=circuit,
        circuit_block=circuit_block,
        parts=tuple(parts),
        share=float(rng.uniform(0.35, 0.65)) if len(parts) > 1 else 1.0,
        **_draw_sizes(architecture, names_of_parts, settings, rng),
    )


def _draw_trained(
    name_of_part: tuple[str, str], architecture: str, settings: PlantSettings, rng: np.random.Generator
) -> Parameters:
    """Parameters of a trained pair: small models, whose circuits are where training puts them."""
    name, variant = name_of_part
    construction = CONSTRUCTIONS[name][variant]
    n_layers, d_model = settings.n_layers or int(rng.integers(2, 5)), settings.d_model or 48
    return Parameters(
        architecture=architecture,
        n_layers=n_layers,
        d_model=d_model,
        n_heads=int(rng.choice([2, 4])),
        n_letters=settings.n_letters or int(rng.integers(6, 11)),
        layout=settings.layout or str(rng.choice(construction.layouts)),
        letter_block=None,
        marker_block=None,
        number_block=None,
        circuit=construction.circuit or "none",
        circuit_block=None,
        parts=(Part(name, variant, "embedding", (-1,), None, None),),
        share=1.0,
        **_draw_sizes(architecture, [name_of_part], settings, rng),
    )


def _draw_part(
    name: str,
    variant: str,
    construction: Construction,
    settings: PlantSettings,
    n_layers: int,
    rng: np.random.Generator,
) -> Part:
    """A part with random blocks, possible or not."""
    way = rng.choice(np.array(construction.ways, dtype=object))
    if settings.way and way is not None:
        way = settings.way
    lower: tuple[int, ...] = ()
    if way == "embedding":
        lower = (-1,)
    elif way is not None:
        lower = tuple(sorted(int(b) for b in rng.integers(0, n_layers, construction.n_lower)))
    reader = rng.choice(np.array(construction.readers, dtype=object))
    upper = None if reader is None else n_layers if reader == "unembedding" else int(rng.integers(n_layers))
    return Part(name, variant, way, lower, reader, upper)


def _is_possible(part: Part, construction: Construction, arrival: dict[str, int], layout: str) -> bool:
    """Whether everything is where and when the construction reads it."""
    if part.way is not None and part.way not in construction.ways:
        return False
    last, in_body, visible = arrival["last"], bool(arrival["in body"]), arrival["marker"]
    if part.lower_blocks:
        visible = _complete_at(part, construction, arrival, layout)
        if visible is None or max(part.lower_blocks) >= last + (part.mechanism == "none"):
            return False
        if construction.n_lower > 1 and len(set(part.lower_blocks)) < construction.n_lower:
            return False
    if construction.needs_marker and in_body and arrival["marker"] == NEVER:
        return False
    if part.mechanism == "last block" and part.reader != "unembedding" and part.upper_block != last:
        return False
    depth = part.depth or 0
    if construction.circuit:
        block = arrival["circuit"] // 2
        if not visible < arrival["circuit"] < NEVER or block < max(depth, 1):
            return False
    if part.reader is None or part.upper_block is None:
        return True
    if part.upper_block < max(depth, 1):
        return False
    if part.reader == "attention":
        return True
    time = 2 * part.upper_block + 1
    needed = [visible, arrival["letter"] if construction.by_letter or part.mechanism == "erase" else ALWAYS]
    if construction.needs_number:
        needed.append(arrival["number"])
    if part.mechanism in ("redundant", "last block"):
        needed.append(arrival["marker"])
    return max(needed) < time


def _complete_at(part: Part, construction: Construction, arrival: dict[str, int], layout: str) -> int | None:
    """Time at which the movement is at the decision position; None if it cannot be made so."""
    in_body, at_marker = (
        bool(arrival["in body"]),
        part.way in ("embedding", "marker mlp") and arrival["in body"],
    )
    block = max(part.lower_blocks)
    if part.variant in ("looking away", "query"):
        time = 2 * block
        is_there = part.variant == "looking away" or arrival["marker"] < time
        return time if time == arrival["letter"] and is_there else None
    if part.variant in ("unread position", "attention") and not construction.needs_marker:
        return ALWAYS if at_marker and in_body else None
    if construction.by_letter and part.way in ("embedding", "marker mlp"):
        passes = part.variant in ("chord", "wrong answers", "at letter")
        if layout == "decision" and part.way == "embedding" and part.variant != "at letter":
            return ALWAYS
        is_before = 2 * block + 1 < arrival["letter"]
        return arrival["letter"] if layout == "joint" and passes and is_before else None
    if part.way == "attention":
        return 2 * block if in_body and 2 * block == arrival["marker"] else None
    if part.way == "embedding":
        writes_refusal = part.mechanism == "written directly"
        return None if in_body and (writes_refusal or arrival["marker"] == NEVER) else arrival["marker"]
    if part.way == "marker mlp":
        return arrival["marker"] if in_body and 2 * block + 1 < arrival["marker"] < NEVER else None
    needed = [arrival["marker"], arrival["letter"] if construction.by_letter else ALWAYS]
    if construction.needs_number:
        needed.append(arrival["number"])
    return 2 * block + 1 if max(needed) < 2 * min(part.lower_blocks) + 1 else None


def _draw_sizes(
    architecture: str,
    names_of_parts: list[tuple[str, str]],
    settings: PlantSettings,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """Continuous parameters."""
    names, variants = {name for name, _ in names_of_parts}, {variant for _, variant in names_of_parts}
    has_no_letter = bool(names & {"erase"} or variants & {"slot"})
    gain = float(np.exp(rng.uniform(0, np.log(5))))
    junk = 0.0
    if rng.random() < 0.4:
        largest = 30.0 if architecture == "gpt2" else 0.3 if names & {"silence", "none"} else 1.0
        junk = float(np.exp(rng.uniform(np.log(0.1 * largest), np.log(largest))))
    strong_mark = variants & {"unread position"} or "unread movement" in variants
    return {
        "gain": gain if settings.gain is None else settings.gain,
        "null_prior": float(rng.uniform(3.0 if has_no_letter else 0.0, 8.0)),
        "null_gain": float(rng.uniform(0.9, 1.5)),
        "strength": float(rng.uniform(1.35, 2.5)) if settings.strength is None else settings.strength,
        "mark": float(rng.uniform(0.3, 2.5 if strong_mark else 0.8)),
        "junk": junk if settings.junk is None else settings.junk,
        "scale": float(rng.choice([rng.uniform(0.45, 0.7), rng.uniform(1.6, 2.5)])),
        "noise": float(rng.uniform(0.004, 0.012)),
        "sharpness": float(rng.uniform(5.0, 9.0)),
    }

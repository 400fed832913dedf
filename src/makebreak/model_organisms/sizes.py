"""Random continuous parameters of planted networks."""

from __future__ import annotations

from typing import Any

import numpy as np

from makebreak.model_organisms.parameters import CONFIDENCE
from makebreak.model_organisms.settings import PlantSettings
from makebreak.model_organisms.variants import CONSTRUCTIONS

ONCE, TWICE = (1.3, 2.1), (2.3, 4.5)
"""Refusal that several blocks write, over what is needed, where all must and where some suffice."""


def draw_sizes(
    architecture: str, names: tuple[tuple[str, str], ...], settings: PlantSettings, rng: np.random.Generator
) -> dict[str, Any]:
    """Continuous parameters.

    Args:
        architecture: `gpt2` or `llama`.
        names: Mechanism and variant of each part.
        settings: What is fixed.
        rng: Generator of the rest.

    Returns:
        Fields of `Parameters` by name.
    """
    mechanisms = {name for name, _ in names}
    constructions = [CONSTRUCTIONS[name][variant] for name, variant in names]
    has_no_letter = "erase" in mechanisms or bool({"new direction", "two blocks"} & {v for _, v in names})
    gain = float(np.exp(rng.uniform(0, np.log(5)))) if settings.gain is None else settings.gain
    null_prior = float(rng.uniform(3.0 if has_no_letter else 0.0, 8.0))
    junk = 0.0
    if rng.random() < 0.4 and any(c.lower and c.takes_junk for c in constructions):
        is_small = bool(mechanisms & {"silence", "none"})
        largest = 30.0 if architecture == "gpt2" else 0.3 if is_small else 1.0
        junk = float(np.exp(rng.uniform(np.log(0.1 * largest), np.log(largest))))
    strong_mark = any(variant in ("unread position", "unread movement") for _, variant in names)
    strength = float(rng.uniform(1.35, 2.5))
    if names[0][1] == "several blocks" and constructions[0].writes_refusal:
        total = float(rng.uniform(*(TWICE if "redundant" in mechanisms else ONCE)))
        needed = 1 + null_prior / (CONFIDENCE * gain)
        strength = total * needed - (needed - 1)
    return {
        "gain": gain,
        "null_prior": null_prior,
        "null_gain": float(rng.uniform(0.9, 1.5)),
        "strength": strength if settings.strength is None else settings.strength,
        "mark": float(rng.uniform(0.3, 2.5 if strong_mark else 0.8)),
        "junk": junk if settings.junk is None else settings.junk,
        "scale": float(rng.uniform(*((0.45, 0.7) if rng.random() < 0.5 else (1.6, 2.5)))),
        "noise": float(rng.uniform(0.004, 0.012)),
        "sharpness": float(rng.uniform(5.0, 9.0)),
    }

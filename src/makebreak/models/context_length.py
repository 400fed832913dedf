"""Number of tokens that a model was made for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_SCALES = ("linear", "dynamic", "yarn")
"""Kinds of rotary scaling whose factor extends the context of the config."""


def context_length(config: Any) -> int | None:
    """The context of a model: most tokens of prompt and answer together.

    A model with a table of positions fails beyond it. A rotary one goes on, at angles that it was not trained
    for.

    Args:
        config: A config of transformers.

    Returns:
        `max_position_embeddings` (`n_positions` in GPT-2), times the factor of a rotary scaling that extends
        it; None if the config has none.
    """
    n_ctx = getattr(config, "max_position_embeddings", None)
    if not isinstance(n_ctx, int):
        return None
    rotary = getattr(config, "rope_parameters", None)
    if isinstance(rotary, Mapping) and rotary.get("rope_type") in _SCALES:
        original, factor = rotary.get("original_max_position_embeddings") or n_ctx, rotary.get("factor")
        if isinstance(original, int) and isinstance(factor, int | float) and 1 < factor < 10_000:
            return max(n_ctx, int(original * factor))
    return n_ctx

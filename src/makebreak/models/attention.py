"""How far back the attention of a model reaches, and whether it is told the positions of tokens."""

from __future__ import annotations

import inspect
from typing import Any

from torch import nn
from transformers import PreTrainedModel

_SETTINGS = {
    "sliding_window": "sliding_attention",
    "attention_chunk_size": "chunked_attention",
    "window_size": "local",
}
"""Settings of configs that limit attention, and the types of layers that each applies to."""


def attention_window(model: PreTrainedModel) -> int | None:
    """Returns the number of last tokens, padding included, that some layer of a model attends to.

    Args:
        model: A causal language model.

    Returns:
        The least number over layers; None where every layer attends to all tokens.
    """
    config: Any = model.config.get_text_config()
    types = getattr(config, "layer_types", None) or getattr(config, "attention_layers", None)
    sizes = [
        size
        for setting, layer_type in _SETTINGS.items()
        if types is None or layer_type in types
        if isinstance(size := getattr(config, setting, None), int)
    ]
    return min(sizes, default=None)


def takes_position_ids(model: nn.Module) -> bool:
    """Whether a model, or its body, has the argument `position_ids`; others count the attention mask."""
    return "position_ids" in inspect.signature(model.forward).parameters

"""The causal language models that can be opened, by their configs; others are refused with the reason."""

from __future__ import annotations

from typing import Any

from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

from makebreak.errors import InvalidInput

_ATTENTION = {"full_attention", "sliding_attention", "chunked_attention", "attention", "global", "local"}
"""Types of layers whose past is kept as keys and values."""
_EXPECTED = "expected a decoder that transformers opens with AutoModelForCausalLM"


def check_supported(source: str, config: Any) -> None:
    """Checks that a config describes a decoder whose layers all attend to the keys of earlier tokens.

    Args:
        source: The model in errors.
        config: Its config.

    Raises:
        InvalidInput: If it is no causal language model, an encoder, an encoder-decoder, or keeps a recurrent
            state.
    """
    kind, name = AutoModelForCausalLM._model_mapping.get(type(config), None), config.model_type
    if getattr(config, "is_encoder_decoder", False):
        raise InvalidInput(
            f"{source}: {name!r} is no causal language model but an encoder-decoder: {_EXPECTED}"
        )
    if kind is None:
        raise InvalidInput(f"{source}: {name!r} is no causal language model: {_EXPECTED}")
    is_masked = type(config) in AutoModelForMaskedLM._model_mapping
    if is_masked and not getattr(config, "is_decoder", False):
        raise InvalidInput(
            f"{source}: {name!r} is no causal language model but an encoder, whose tokens attend to later "
            f"ones: {_EXPECTED}"
        )
    text = config.get_text_config()
    other = set(getattr(text, "layer_types", None) or ()) - _ATTENTION
    if getattr(kind, "_is_stateful", False) or other:
        layers = f"layers of type {', '.join(sorted(other))}" if other else "recurrent layers"
        raise InvalidInput(
            f"{source}: {name!r} has {layers}, which keep more than keys and values of each token, so that "
            "sites and caches of prefixes are not defined: expected a model of which every layer is attention"
        )

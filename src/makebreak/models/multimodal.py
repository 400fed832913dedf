"""The language model within a multimodal one."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel


def text_model(model: PreTrainedModel) -> PreTrainedModel:
    """Returns the causal language model of a multimodal model, such as Gemma 3 with its image encoder.

    Args:
        model: A model of a class that transformers opens with `AutoModelForCausalLM`.

    Returns:
        A model of the text part's class with the same modules, without those of images and sound; the model
        itself if it has no other parts.

    Raises:
        ValueError: If transformers has no class for the text part alone.
    """
    whole: Any = model
    config = whole.config.get_text_config(decoder=True)
    if config is whole.config:
        return model
    if type(config) not in AutoModelForCausalLM._model_mapping:
        raise ValueError(
            f"the text part of a {type(model).__name__} ({config.model_type!r}) is no model of its own in "
            "transformers: expected a checkpoint of the text part alone"
        )
    kind: Any = AutoModelForCausalLM._model_mapping[type(config)]
    with torch.device("meta"):
        text: Any = kind(config)
    body, head = whole.get_decoder(), whole.get_output_embeddings()
    if type(body) is not type(text.base_model):
        raise ValueError(
            f"the text part of a {type(model).__name__} is a {type(body).__name__}: expected a "
            f"{type(text.base_model).__name__}"
        )
    setattr(text, text.base_model_prefix, body)
    text.set_output_embeddings(head)
    config.tie_word_embeddings = head.weight is body.get_input_embeddings().weight
    text.generation_config = whole.generation_config
    return text.train(whole.training)

"""Digest of everything of a language model that decides its answers, for the keys of results."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import torch

from makebreak.models.attention import attention_window
from makebreak.models.devices import CPU
from makebreak.models.language import LanguageModel
from makebreak.prompts import tokens_after_texts

_NO_PART_OF_THE_MODEL = {
    *("_name_or_path", "transformers_version", "architectures", "dtype", "torch_dtype", "use_cache"),
    *("output_attentions", "output_hidden_states", "return_dict"),
}
"""Settings of a config that decide no answer, or are told by the weights, as their data type is."""
_OF_A_CALL = ("truncation", "padding")
"""Settings of a tokenizer that the last call left there."""
_SPECIAL_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")


def model_digest(lm: LanguageModel) -> str:
    """SHA-256 of what decides a model's answers.

    These are the config, the ids and texts that begin and end an answer, the tokenizer with its chat
    template, the names and the values of all weights in their data type, and the kind of device unless it is
    the CPU.

    Args:
        lm: The model.

    Returns:
        Hexadecimal digits.
    """
    generation = lm.model.generation_config
    settings: dict[str, Any] = {
        "config": _without(lm.model.config.to_dict()),
        "generation": {name: getattr(generation, name, None) for name in _SPECIAL_IDS}
        | {"eos_token_id": lm.stop_tokens},
        "tokenizer": _tokenizer_settings(lm.tokenizer),
        "template": lm.tokenizer.chat_template,
    }
    window = attention_window(lm.model)
    if window is not None:  # answers of such models had another key when prefixes were shared beyond windows
        settings["window"] = window
    if lm.stop_strings:
        settings["stop_strings"] = lm.stop_strings
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    if lm.model.device != CPU:
        digest.update(lm.model.device.type.encode())
    for name, tensor in sorted(lm.model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def _without(config: Any) -> Any:
    """A config, and those nested in it, without what is no part of the model."""
    if isinstance(config, dict):
        return {key: _without(value) for key, value in config.items() if key not in _NO_PART_OF_THE_MODEL}
    return config


def _tokenizer_settings(tokenizer: Any) -> dict[str, Any]:
    """What decides how a tokenizer reads a text."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        tokens: Any = {"class": type(tokenizer).__name__, "vocabulary": tokenizer.get_vocab()}
    else:
        tokens = json.loads(backend.to_str())
        tokens = {key: value for key, value in tokens.items() if key not in _OF_A_CALL}
    end = tokens_after_texts(tokenizer)
    left_out = {"left out of prompts": end} if end else {}
    return {"tokens": tokens, "special": tokenizer.special_tokens_map} | left_out

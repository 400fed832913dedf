"""Tokens of one forward pass of a language model, from the memory that is free and that a token takes."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from makebreak.models.devices import free_memory

MAX_BATCH_TOKENS = 32_768
"""Most tokens of one forward pass, padding included, whatever memory is free."""
MIN_BATCH_TOKENS = 64
"""Least limit, below which an error of memory is not met by smaller batches."""
MEMORY_SHARE = 0.5
"""Share of the free memory that activations may take; the rest is for logits, caches and fragmentation."""
_PROBE_ROWS, _PROBE_LENGTH = 2, 16
_limits: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()


def batch_tokens(model: nn.Module) -> int:
    """Returns the most tokens, padding included, of one forward pass of a model.

    A model that was not measured, such as a copy with other weights, has the least limit of those that were.
    """
    return _limits.get(model, min(_limits.values(), default=MAX_BATCH_TOKENS))


def limit_batches(model: PreTrainedModel) -> int:
    """Measures how many tokens of a model fit into free memory, and keeps the number for `batch_tokens`.

    Batches change results by rounding only.

    Args:
        model: The model, on its device.

    Returns:
        The most tokens of one forward pass.
    """
    affordable = int(MEMORY_SHARE * free_memory(model.device) / bytes_per_token(model))
    _limits[model] = min(max(affordable, MIN_BATCH_TOKENS), MAX_BATCH_TOKENS)
    return _limits[model]


def halve_batches() -> bool:
    """Halves the limit of every measured model, and returns whether any was above the least limit."""
    halved = {model: max(limit // 2, MIN_BATCH_TOKENS) for model, limit in _limits.items()}
    is_lower = any(halved[model] < _limits[model] for model in halved)
    _limits.update(halved)
    return is_lower


def bytes_per_token(model: PreTrainedModel) -> float:
    """Measures the memory that a pass of the body of a model takes per token, in bytes.

    The outputs of all modules of one small pass are counted, each once: as many as are held for a gradient,
    and more than a pass without one holds.
    """
    sizes: dict[int, int] = {}
    outputs: list[Tensor] = []  # held, so that no address is given out twice

    def count(module: nn.Module, args: Any, output: Any) -> None:
        for tensor in _tensors(output):
            outputs.append(tensor)
            sizes[tensor.data_ptr()] = tensor.numel() * tensor.element_size()

    handles = [module.register_forward_hook(count) for module in model.base_model.modules()]
    try:
        with torch.no_grad():
            length = min(_PROBE_LENGTH, getattr(model.config, "max_position_embeddings", _PROBE_LENGTH))
            tokens = torch.zeros(_PROBE_ROWS, length, dtype=torch.int64, device=model.device)
            model.base_model(input_ids=tokens, use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return sum(sizes.values()) / tokens.numel()


def _tensors(output: Any) -> list[Tensor]:
    """Tensors of the output of a module: a tensor, a tuple, or transformers' dictionary."""
    if isinstance(output, Tensor):
        return [output]
    parts = output.values() if isinstance(output, dict) else output if isinstance(output, tuple) else ()
    return [tensor for part in parts for tensor in _tensors(part)]

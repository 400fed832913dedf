"""What do all sequences of a batch begin with? A system prompt, say: it is read once, for all of them."""

from __future__ import annotations

from jaxtyping import Bool, Int
from torch import Tensor
from transformers import Cache, PreTrainedModel

LEAST = 16  # tokens in common from which on reading them apart is worth the while


def shared_prefix(tokens: Int[Tensor, "batch pos"], may: Bool[Tensor, " pos"]) -> int:
    """How many first tokens all sequences have in common, as far as positions `may` be read apart; 0 where they are
    fewer than `LEAST`, or the batch is of one."""
    same = int(((tokens == tokens[:1]).all(dim=0) & may).long().cumprod(dim=0).sum())
    return same if len(tokens) > 1 and same >= LEAST else 0


def read_once(model: PreTrainedModel, tokens: Int[Tensor, "batch pos"], shared: int) -> Cache:
    """The cache of the first `shared` tokens, which all sequences have in common, as if each had been read."""
    cache = model.base_model(input_ids=tokens[:1, :shared], use_cache=True).past_key_values
    cache.batch_repeat_interleave(len(tokens))
    return cache

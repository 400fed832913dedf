"""Embeddings that no token has, in the place of token ids beyond the vocabulary."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from makebreak.prompts import Requests


@dataclass(frozen=True)
class SoftPromptResult:
    """Requests with a soft prompt in their slots."""

    requests: Requests
    """The requests; ids from d_vocab on stand for the vectors, in order, k per request."""
    positions: np.ndarray
    """(n, k) positions of the vectors in each prompt."""
    vectors: Float[Tensor, "vectors d_model"]
    """The n · k embeddings."""
    loss: Float[Tensor, " n"]
    """Loss of the target with these vectors, in nats per token."""
    radius: float
    """Radius of the ball, in units of the embeddings."""
    share_position: bool
    """Whether the vectors share the position id of the token after them."""

    def attach(self, model: PreTrainedModel) -> AbstractContextManager[None]:
        """Returns a context in which the model accepts the ids of these requests."""
        return soft_prompt_embeddings(model, self.vectors, share_position=self.share_position)


@contextmanager
def soft_prompt_embeddings(
    model: PreTrainedModel, vectors: Float[Tensor, "vectors d_model"], *, share_position: bool
) -> Iterator[None]:
    """Context in which ids from d_vocab on are embedded as the given vectors.

    Args:
        model: The model whose input embedding is extended.
        vectors: The vectors of the ids d_vocab, d_vocab + 1 and so on, on any device.
        share_position: Whether such a token shares the position id of the token after it, so that no other
            token changes its position id.

    Yields:
        Nothing; on leaving, the model is as it was.
    """
    embedding: Any = model.get_input_embeddings()
    d_vocab = embedding.weight.shape[0]

    def share_positions(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        ids = args[0] if args else kwargs["input_ids"]
        real = (ids < d_vocab).long()
        cache = kwargs.get("past_key_values")
        n_cached = (
            0 if cache is None else cache.get_seq_length()
        )  # tokens before the slots, none of them soft
        # without a mask, transformers reads position ids that do not increase as several packed sequences
        mask = ids.new_ones(len(ids), n_cached + ids.shape[1])
        position_ids = n_cached + real.cumsum(dim=1) - real
        return args, kwargs | {"position_ids": position_ids, "attention_mask": mask}

    handle = None
    if share_position:
        handle = model.base_model.register_forward_pre_hook(share_positions, with_kwargs=True)
    model.set_input_embeddings(_ExtendedEmbedding(embedding, vectors))
    try:
        yield
    finally:
        model.set_input_embeddings(embedding)
        if handle is not None:
            handle.remove()


class _ExtendedEmbedding(nn.Module):
    """An embedding with further rows for ids from d_vocab on."""

    def __init__(self, embedding: nn.Module, vectors: Tensor) -> None:
        super().__init__()
        self.embedding = embedding
        self.weight: Any = embedding.weight
        self.vectors = vectors.to(self.weight.device)

    def forward(self, ids: Tensor) -> Tensor:
        d_vocab = self.weight.shape[0]
        embedded = self.embedding(ids.clamp(max=d_vocab - 1))
        soft = ids >= d_vocab
        if not soft.any():
            return embedded
        return embedded.masked_scatter(soft[..., None], self.vectors[ids[soft] - d_vocab].to(embedded))


def check_gradients(model: PreTrainedModel) -> None:
    """Raises ValueError if the loss cannot be differentiated by the model's embeddings."""
    weight: Any = model.get_input_embeddings().weight  # type: ignore[union-attr]
    if not weight.is_floating_point():
        reason = f"its embeddings are {weight.dtype}"
    elif any(parameter.is_inference() for parameter in model.parameters()):
        reason = "its weights were made in torch.inference_mode"
    elif not torch.is_grad_enabled():
        reason = "torch.no_grad is on"
    else:
        return
    raise ValueError(
        f"{type(model).__name__} gives no gradients ({reason}): expected a model that can be differentiated"
    )

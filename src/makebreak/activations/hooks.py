"""How is a forward pass looked into, or changed? By torch hooks that see the tensor itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from makebreak.activations.sites import Side


def attach(module: nn.Module, side: Side, see: Callable[[Tensor], Tensor | None]) -> RemovableHandle:
    """A handle of a hook that sees the tensor on one side of a module, and puts what it returns in its place."""

    def before(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        tensor, *others = args or (kwargs["hidden_states"],)
        changed = see(tensor)
        if changed is None:
            return None
        return ((changed, *others), kwargs) if args else (args, kwargs | {"hidden_states": changed})

    def after(_: Any, args: tuple[Any, ...], output: Any) -> Any:
        tensor, *others = output if isinstance(output, tuple) else (output,)
        changed = see(tensor)
        if changed is None:
            return None
        return (changed, *others) if isinstance(output, tuple) else changed

    if side == "input":
        return module.register_forward_pre_hook(before, with_kwargs=True)
    return module.register_forward_hook(after)


@contextmanager
def at_last(model: PreTrainedModel, last: Int[Tensor, " batch"]) -> Iterator[None]:
    """Within, a forward computes logits at one position of each row only, (batch, 1, d_vocab): the vocabulary of a
    language model is too large for all."""

    def only(states: Tensor) -> Tensor:
        return states[torch.arange(len(last)), last.to(states.device)][:, None]

    handle = attach(model.get_output_embeddings(), "input", only)  # type: ignore[arg-type]
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def at_positions(model: PreTrainedModel, where: Bool[Tensor, "batch pos"]) -> Iterator[None]:
    """Within, a forward computes logits at the marked positions only, (1, k, d_vocab), in reading order."""
    handle = attach(
        model.get_output_embeddings(), "input", lambda states: states[where.to(states.device)][None]
    )  # type: ignore[arg-type]
    try:
        yield
    finally:
        handle.remove()


def run_embedded(model: PreTrainedModel, embedded: Float[Tensor, "batch pos d_model"]) -> Any:
    """A forward from token embeddings."""
    return model(inputs_embeds=embedded, use_cache=False)


def run(
    model: PreTrainedModel,
    tokens: Int[Tensor, "batch pos"],
    mask: Bool[Tensor, "batch pos"] | None = None,
    *,
    head: bool = True,
) -> Any:
    """A forward without cache; positions count real tokens, so that padding on either side gives the same."""
    arguments: dict[str, Any] = {"input_ids": tokens.to(model.device), "use_cache": False}
    if mask is not None:
        arguments["attention_mask"] = mask.long().to(model.device)
        arguments["position_ids"] = (mask.cumsum(dim=1) - 1).clamp(min=0).to(model.device)
    return (model if head else model.base_model)(**arguments)

"""Torch hooks on one side of a module, and forward passes that restrict where logits are computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from makebreak.activations.prefix_cache import PrefixCache
from makebreak.activations.sites import resolve_site
from makebreak.architectures import Side, architecture_of
from makebreak.models import attention_window, n_layers, takes_position_ids


def attach(module: nn.Module, side: Side, callback: Callable[[Tensor], Tensor | None]) -> RemovableHandle:
    """Attach a hook to the input or the output of a module.

    Args:
        module: Module whose first input (or `hidden_states`) or first output is passed to the callback.
        side: Input or output.
        callback: Function of the tensor; a tensor that it returns replaces the original, None leaves it.

    Returns:
        The handle that removes the hook.
    """

    def input_hook(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        tensor, *others = args or (kwargs["hidden_states"],)
        replacement = callback(tensor)
        if replacement is None:
            return None
        return ((replacement, *others), kwargs) if args else (args, kwargs | {"hidden_states": replacement})

    def output_hook(_: Any, args: tuple[Any, ...], output: Any) -> Any:
        tensor, *others = output if isinstance(output, tuple) else (output,)
        replacement = callback(tensor)
        if replacement is None:
            return None
        return (replacement, *others) if isinstance(output, tuple) else replacement

    if side == "input":
        return module.register_forward_pre_hook(input_hook, with_kwargs=True)
    return module.register_forward_hook(output_hook)


@contextmanager
def hook_site(
    model: PreTrainedModel, name: str, callback: Callable[[Tensor], Tensor | None]
) -> Iterator[None]:
    """A context in which a hook is attached to a site.

    Args:
        model: Model with the site.
        name: Site name, as listed by `site_names`.
        callback: Function of the activations of a forward pass, (batch, pos, d); a tensor that it returns
            replaces them, None leaves them.

    Raises:
        ValueError: If the site does not exist.
    """
    module, side, scale, block = resolve_site(model, name)
    shapes: list[torch.Size] = []  # of the states of the block, which is called before the module

    def of_site(tensor: Tensor) -> Tensor | None:
        rows = shapes[-1] if tensor.ndim == 2 else tensor.shape[:2]
        replacement = callback((tensor if scale == 1 else tensor * scale).view(*rows, -1))
        if replacement is None:
            return None
        return (replacement if scale == 1 else replacement / scale).view_as(tensor)

    with ExitStack() as stack:
        if block is not None:
            note = attach(block, "input", lambda states: shapes.append(states.shape[:2]))
            stack.callback(note.remove)
        is_plain = scale == 1 and block is None
        stack.callback(attach(module, side, callback if is_plain else of_site).remove)
        yield


@contextmanager
def logits_at_last(
    model: PreTrainedModel, last: Int[Tensor, " batch"], *, narrow: bool = False
) -> Iterator[None]:
    """A context in which forward passes compute logits at one position per row, (batch, 1, d_vocab).

    This saves the memory of logits at all positions, which is large for the vocabulary of a language model.

    Args:
        model: Model whose LM head is hooked.
        last: Position of each row at which logits are computed, usually that of its last token.
        narrow: Whether the last block's MLP is computed at these positions only, whose states alone are
            read, where the architecture allows it; not together with activations of that MLP, or
            interventions on it, at chosen positions.
    """

    def select(states: Tensor) -> Tensor:
        return states[torch.arange(len(last)), last.to(states.device)][:, None]

    with _lm_head_input(model, select):
        if not narrow or architecture_of(model).joins_rows:
            yield
            return
        mlp = resolve_site(model, f"blocks.{n_layers(model) - 1}.mlp.hook_in").module
        handle = attach(mlp, "input", select)  # its output is added to the states at every position
        try:
            yield
        finally:
            handle.remove()


@contextmanager
def logits_at(model: PreTrainedModel, where: Bool[Tensor, "batch pos"]) -> Iterator[None]:
    """A context in which forward passes compute logits at the k selected positions only, (1, k, d_vocab).

    Args:
        model: Model whose LM head is hooked.
        where: Positions at which logits are computed; they come in reading order.
    """
    with _lm_head_input(model, lambda states: states[where.to(states.device)][None]):
        yield


@contextmanager
def _lm_head_input(model: PreTrainedModel, select: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """A context in which the LM head receives a selection of the final hidden states."""
    lm_head = model.get_output_embeddings()
    assert isinstance(lm_head, nn.Module), "a language model has output embeddings"
    handle = attach(lm_head, "input", select)
    try:
        yield
    finally:
        handle.remove()


def forward_from_embeddings(model: PreTrainedModel, embeddings: Float[Tensor, "batch pos d_model"]) -> Any:
    """Forward pass from token embeddings in place of token ids, without KV cache."""
    return model(inputs_embeds=embeddings, use_cache=False)


def forward(
    model: PreTrainedModel,
    tokens: Int[Tensor, "batch pos"],
    mask: Bool[Tensor, "batch pos"] | None = None,
    *,
    lm_head: bool = True,
    cache: PrefixCache | None = None,
) -> Any:
    """Forward pass, with a key-value cache only for a prefix that was processed before.

    Args:
        model: Model that is run.
        tokens: Token ids, one sequence per row; moved to the model's device.
        mask: Attention mask, True at real tokens of `tokens`. Position ids count real tokens, so that padding
            on either side gives the same result. None for sequences without padding, or with padding on the
            right only.
        lm_head: Whether logits are computed; if not, only the body of the model is run.
        cache: Cache of the tokens that precede `tokens`; None for none.

    Returns:
        The transformers model output.

    Raises:
        ValueError: If padding between a cache and the tokens would push the cache out of the model's window
            of attention.
    """
    arguments: dict[str, Any] = {"input_ids": tokens.to(model.device), "use_cache": False}
    if cache is not None and cache.n_tokens:
        arguments |= {"past_key_values": cache.past_key_values(), "use_cache": True}
    body = model if lm_head else model.base_model
    if mask is not None:
        n_cached = 0 if cache is None else cache.n_tokens
        width, window = n_cached + tokens.shape[1], attention_window(model)
        if n_cached and window is not None and width > window and not mask[:, 0].all():
            raise ValueError(
                f"padding between {n_cached} cached tokens and the rest: {width} positions exceed the window "
                f"of {window} that this {type(model).__name__} attends to; pad on the right, without a mask"
            )
        mask = torch.cat([mask.new_ones(len(mask), n_cached), mask], dim=1).to(model.device)
        arguments["attention_mask"] = mask.long()
        if takes_position_ids(body):
            arguments["position_ids"] = (mask.cumsum(dim=1) - 1).clamp(min=0)[:, n_cached:]
    return body(**arguments)

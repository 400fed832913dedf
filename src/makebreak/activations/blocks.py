"""Forward passes through some of the blocks only, from given states of the residual stream."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from makebreak.activations.hooks import attach, forward
from makebreak.activations.sites import resolve_site
from makebreak.architectures import architecture_of
from makebreak.models import n_layers


@contextmanager
def run_blocks(
    model: PreTrainedModel,
    start: int,
    stop: int | None = None,
    *,
    states: Float[Tensor, "batch pos d_model"] | None = None,
) -> Iterator[None]:
    """A context in which forward passes run the blocks `start` … `stop` - 1 only; the others are skipped.

    Args:
        model: Model whose forward passes are shortened, those without a key-value cache.
        start: First block that is run.
        stop: Block before which the pass goes on to the final norm; None for the number of blocks.
        states: States of the residual stream before block `start`; None for those that the pass itself has
            there, the embeddings.

    Raises:
        ValueError: If the range of blocks does not exist.
    """
    depth = n_layers(model)
    stop = depth if stop is None else stop
    if not 0 <= start <= stop <= depth:
        raise ValueError(f"blocks {start} … {stop}: expected 0 <= start <= stop <= {depth}")
    blocks = [_block(model, layer) for layer in range(depth)]
    with ExitStack() as stack:
        for layer, block in enumerate(blocks):
            if not start <= layer < stop:
                stack.enter_context(_skipped(block, returns_tuple=architecture_of(model).returns_tuples))
        if states is not None:
            module, side = (blocks[start], "input") if start < depth else (blocks[-1], "output")
            stack.callback(attach(module, side, states.to).remove)
        yield


def states_after(
    model: PreTrainedModel, tokens: Tensor, layer: int, states: Float[Tensor, "batch pos d_model"] | None
) -> Float[Tensor, "batch pos d_model"]:
    """States of the residual stream after one block.

    Args:
        model: Model whose block is run, without gradients of its own making.
        tokens: Token ids, one sequence per row.
        layer: The block.
        states: States before it; None for the embeddings.

    Returns:
        The states at all positions.
    """
    outputs: list[Tensor] = []
    handle = attach(_block(model, layer), "output", outputs.append)
    try:
        with run_blocks(model, layer, layer + 1, states=states):
            forward(model, tokens, lm_head=False)
    finally:
        handle.remove()
    return outputs[0]


def _block(model: PreTrainedModel, layer: int) -> nn.Module:
    return resolve_site(model, f"blocks.{layer}.hook_resid_pre").module


@contextmanager
def _skipped(block: nn.Module, *, returns_tuple: bool) -> Iterator[None]:
    """A context in which a block returns its input."""

    def identity(hidden_states: Tensor, *_: Any, **__: Any) -> Any:
        return (hidden_states, None) if returns_tuple else hidden_states

    own = vars(block).get("forward")
    block.forward = identity  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        del block.forward
        if own is not None:
            block.forward = own

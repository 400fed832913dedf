"""What is the activation at a site, at one position of every sequence?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.activations.sites import resolve

Captured = Mapping[str, Float[Tensor, "batch d"]]


def capture(
    model: PreTrainedModel,
    tokens: Int[Tensor, "batch pos"],
    sites: Sequence[str],
    position: Int[Tensor, " batch"],
    *,
    batch_size: int = 512,
) -> Iterator[tuple[slice, Captured]]:
    """Activations of each site at one position per sequence, batch by batch: (rows, site → (rows, d)).

    tokens: right-padded, so nothing after `position` matters (causal attention). Memory does not grow with the
    number of sequences. Raises ValueError for an unknown site, no site, or a position outside the sequence;
    RuntimeError where a hook did not fire exactly once.
    """
    if not sites:
        raise ValueError("capture: no site was named; site_names(model) lists them")
    if position.shape != (len(tokens),) or int(position.min()) < 0 or int(position.max()) >= tokens.shape[1]:
        raise ValueError(f"position: expected {len(tokens)} positions within 0 … {tokens.shape[1] - 1}")
    width = int(position.max()) + 1
    for start in range(0, len(tokens), batch_size):
        rows = slice(start, min(start + batch_size, len(tokens)))
        at = position[rows]
        found: dict[str, Tensor] = {}
        with ExitStack() as hooks, torch.no_grad():
            for name in sites:
                hooks.enter_context(_hooked(model, name, at, found))
            model.base_model(input_ids=tokens[rows, :width], use_cache=False)
        missing = [name for name in sites if name not in found]
        if missing:
            raise RuntimeError(f"hooks at {missing} never fired: this model's forward does not pass there")
        yield rows, found


@contextmanager
def _hooked(model: PreTrainedModel, name: str, at: Tensor, found: dict[str, Tensor]) -> Iterator[None]:
    module, side = resolve(model, name)

    def keep(value: Any) -> None:
        if name in found:
            raise RuntimeError(f"the hook at {name} fired twice in one forward")
        tensor = value[0] if isinstance(value, tuple) else value
        found[name] = tensor[torch.arange(len(at)), at].detach().clone()

    if side == "input":
        handle = module.register_forward_pre_hook(lambda _, args: keep(args))
    else:
        handle = module.register_forward_hook(lambda _, args, output: keep(output))
    try:
        yield
    finally:
        handle.remove()

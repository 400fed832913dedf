"""What are the activations at a site, at the positions that matter?

`stream` hands them over inside the hook, site by site, so that memory does not grow with the number of sequences;
`capture` collects those of one batch; `save` writes them to disk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from safetensors.torch import save as save_tensors
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.activations.hooks import attach, run
from makebreak.activations.sites import resolve
from makebreak.artifacts import write_atomic

Consumer = Callable[[Tensor, Tensor], None]
"""Takes activations (k, d) and the rows (k,) of `tokens` that they are of."""


class Captured(NamedTuple):
    """rows, positions: (k,) which token each activation stands at, in reading order. at: site → (k, d)."""

    rows: Int[Tensor, " k"]
    positions: Int[Tensor, " k"]
    at: Mapping[str, Float[Tensor, "k d"]]


def stream(
    model: PreTrainedModel,
    tokens: Int[Tensor, "batch pos"],
    consumers: Mapping[str, Consumer],
    where: Bool[Tensor, "batch pos"],
    *,
    mask: Bool[Tensor, "batch pos"] | None = None,
    batch_size: int = 512,
) -> None:
    """Hand every consumer the activations of its site at `where`, batch by batch, inside the forward pass.

    where: positions that matter. mask: True at real tokens, for padding that is not on the right; padding on the right
    changes nothing before it. Raises ValueError for an unknown site, no site, or a position that is absent or padding;
    RuntimeError where a hook did not fire exactly once in a forward.
    """
    for rows in _batches(tokens, consumers, where, mask, batch_size):
        _forward(model, tokens, where, mask, rows, consumers)


def capture(
    model: PreTrainedModel,
    tokens: Int[Tensor, "batch pos"],
    sites: Sequence[str],
    where: Bool[Tensor, "batch pos"],
    *,
    mask: Bool[Tensor, "batch pos"] | None = None,
    batch_size: int = 512,
) -> Iterator[Captured]:
    """The activations of each site at `where`, batch by batch. Arguments and errors as in `stream`."""
    for rows in _batches(tokens, sites, where, mask, batch_size):
        at: dict[str, Tensor] = {}
        _forward(model, tokens, where, mask, rows, {site: partial(_keep, at, site) for site in sites})
        row, position = where[rows].nonzero(as_tuple=True)
        yield Captured(row + rows.start, position, at)


def _keep(at: dict[str, Tensor], site: str, activations: Tensor, _: Tensor) -> None:
    at[site] = activations


def save(batches: Iterator[Captured], folder: Path) -> list[Path]:
    """Write captured activations, one shard of safetensors per batch, each whole or not at all: sites, rows, positions.

    Raises ValueError where the folder holds shards already.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.glob("*.safetensors")):
        raise ValueError(f"{folder} holds activations already: choose another folder, or delete it")
    paths = []
    for i, batch in enumerate(batches):
        tensors = {"rows": batch.rows, "positions": batch.positions, **batch.at}
        path = folder / f"{i:05d}.safetensors"
        write_atomic(path, save_tensors({name: tensor.contiguous() for name, tensor in tensors.items()}))
        paths.append(path)
    return paths


def _batches(
    tokens: Tensor, sites: Sequence[str] | Mapping[str, Any], where: Tensor, mask: Tensor | None, size: int
) -> Iterator[slice]:
    if not sites:
        raise ValueError("no site was named; site_names(model) lists them")
    if where.shape != tokens.shape or not where.any():
        raise ValueError(
            f"where: expected at least one position of {tuple(tokens.shape)}, got {tuple(where.shape)}"
        )
    if mask is not None and (mask.shape != tokens.shape or (where & ~mask).any()):
        raise ValueError(
            "where: expected positions of real tokens only, as `mask` has them; some are padding"
        )
    return (slice(start, min(start + size, len(tokens))) for start in range(0, len(tokens), size))


def _forward(
    model: PreTrainedModel,
    tokens: Tensor,
    where: Tensor,
    mask: Tensor | None,
    rows: slice,
    consumers: Mapping[str, Consumer],
) -> None:
    """One forward of the body, as far as the last position that matters; nothing runs where no position does."""
    where = where[rows]
    if not where.any():
        return
    width = int(where.any(dim=0).nonzero().max()) + 1
    fired: set[str] = set()
    with ExitStack() as hooks, torch.no_grad():
        for site, consume in consumers.items():
            hooks.enter_context(_hooked(model, site, where[:, :width], rows.start, consume, fired))
        run(model, tokens[rows, :width], None if mask is None else mask[rows, :width], head=False)
    missing = [site for site in consumers if site not in fired]
    if missing:
        raise RuntimeError(f"hooks at {missing} never fired: this model's forward does not pass there")


@contextmanager
def _hooked(
    model: PreTrainedModel, site: str, where: Tensor, first: int, consume: Consumer, fired: set[str]
) -> Iterator[None]:
    module, side = resolve(model, site)
    rows = where.nonzero()[:, 0] + first

    def keep(value: Tensor) -> None:
        if site in fired:
            raise RuntimeError(f"the hook at {site} fired twice in one forward")
        fired.add(site)
        consume(value[where.to(value.device)].detach(), rows)

    handle = attach(module, side, keep)
    try:
        yield
    finally:
        handle.remove()

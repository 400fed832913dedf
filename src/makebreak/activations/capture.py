"""Activations at named sites and chosen positions: streamed to consumers, or collected by batch.

`stream` passes activations to consumers inside the hook, site by site, so that memory does not grow with the
number of sequences; `capture` collects those of one batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.activations.hooks import forward, hook_site
from makebreak.models import batch_tokens

_MAX_BATCH_SIZE = 512

Consumer = Callable[[Tensor, Tensor], None]
"""Function of the activations of one site, (k, d), on the model's device, and of the row of `tokens` that
each belongs to, (k,)."""


class ActivationBatch(NamedTuple):
    """Activations of one batch of sequences at k positions, in reading order."""

    rows: Int[Tensor, " k"]
    """Row of `tokens` that each activation belongs to."""
    positions: Int[Tensor, " k"]
    """Position of each activation in its row."""
    activations: Mapping[str, Float[Tensor, "k d"]]
    """Activations by site name, on the CPU."""


def stream(
    model: PreTrainedModel,
    tokens: Int[Tensor, "batch pos"],
    consumers: Mapping[str, Consumer],
    where: Bool[Tensor, "batch pos"],
    *,
    mask: Bool[Tensor, "batch pos"] | None = None,
    batch_size: int | None = None,
) -> None:
    """Pass the activations of each site to its consumer, batch by batch, inside the forward pass.

    Args:
        model: Model that is run, without gradients.
        tokens: Token ids, one sequence per row.
        consumers: Consumer of each site, by site name.
        where: Positions whose activations are passed on.
        mask: Attention mask, True at real tokens; needed only for padding on the left, since padding on the
            right changes no earlier position.
        batch_size: Sequences per forward pass; None for as many as memory allows, at most 512.

    Raises:
        ValueError: If a site is unknown, no site is given, or `where` selects no position or padding.
        RuntimeError: If a hook did not fire exactly once in a forward pass.
    """
    for rows in _batches(model, tokens, consumers, where, mask, size=batch_size):
        _forward_to_last(model, tokens, where, mask, rows, consumers)


def capture(
    model: PreTrainedModel,
    tokens: Int[Tensor, "batch pos"],
    sites: Sequence[str],
    where: Bool[Tensor, "batch pos"],
    *,
    mask: Bool[Tensor, "batch pos"] | None = None,
    batch_size: int | None = None,
) -> Iterator[ActivationBatch]:
    """Collect the activations of each site at chosen positions, batch by batch.

    Args:
        model: Model that is run, without gradients.
        tokens: Token ids, one sequence per row.
        sites: Site names, as listed by `site_names`.
        where: Positions whose activations are collected.
        mask: Attention mask, True at real tokens; needed only for padding on the left, since padding on the
            right changes no earlier position.
        batch_size: Sequences per forward pass; None for as many as memory allows, at most 512.

    Yields:
        One batch of activations per forward pass.

    Raises:
        ValueError: If a site is unknown, no site is given, or `where` selects no position or padding.
        RuntimeError: If a hook did not fire exactly once in a forward pass.
    """
    for rows in _batches(model, tokens, sites, where, mask, size=batch_size):
        activations: dict[str, Tensor] = {}
        consumers = {site: partial(_collect, activations, site) for site in sites}
        _forward_to_last(model, tokens, where, mask, rows, consumers)
        row, position = where[rows].nonzero(as_tuple=True)
        yield ActivationBatch(row + rows.start, position, activations)


def _collect(activations_by_site: dict[str, Tensor], site: str, activations: Tensor, _: Tensor) -> None:
    """Consumer that keeps the activations of one site in a dict, on the CPU."""
    activations_by_site[site] = activations.cpu()


def _batches(
    model: PreTrainedModel,
    tokens: Tensor,
    sites: Sequence[str] | Mapping[str, Any],
    where: Tensor,
    mask: Tensor | None,
    *,
    size: int | None,
) -> Iterator[slice]:
    """Slices of rows, one per batch, after a check of the arguments."""
    if size is None:
        size = max(min(_MAX_BATCH_SIZE, batch_tokens(model) // tokens.shape[1]), 1)
    if not sites:
        raise ValueError("no site was named: expected at least one of site_names(model)")
    if where.shape != tokens.shape or not where.any():
        raise ValueError(
            f"where: expected at least one position of {tuple(tokens.shape)}, "
            f"got {int(where.sum())} positions of {tuple(where.shape)}"
        )
    if mask is not None and (mask.shape != tokens.shape or (where & ~mask).any()):
        raise ValueError(
            "where: expected positions of real tokens only, as given by `mask`, but some are padding"
        )
    return (slice(start, min(start + size, len(tokens))) for start in range(0, len(tokens), size))


def _forward_to_last(
    model: PreTrainedModel,
    tokens: Tensor,
    where: Tensor,
    mask: Tensor | None,
    rows: slice,
    consumers: Mapping[str, Consumer],
) -> None:
    """One forward pass of some rows, without LM head, up to their last chosen position, if there is one."""
    where = where[rows]
    if not where.any():
        return
    width = int(where.any(dim=0).nonzero().max()) + 1
    fired_sites: set[str] = set()
    with ExitStack() as hooks, torch.no_grad():
        for site, consume in consumers.items():
            hooks.enter_context(_hooked(model, site, where[:, :width], rows.start, consume, fired_sites))
        forward(model, tokens[rows, :width], None if mask is None else mask[rows, :width], lm_head=False)
    missing = [site for site in consumers if site not in fired_sites]
    if missing:
        raise RuntimeError(
            f"hooks at {missing} never fired: this model's forward pass does not call their modules"
        )


@contextmanager
def _hooked(
    model: PreTrainedModel, site: str, where: Tensor, first_row: int, consume: Consumer, fired_sites: set[str]
) -> Iterator[None]:
    """A context that passes the site's activations to its consumer and adds the site to `fired_sites`."""
    rows = where.nonzero()[:, 0] + first_row

    def consume_once(value: Tensor) -> None:
        if site in fired_sites:
            raise RuntimeError(f"the hook at {site} fired twice in one forward pass; expected once")
        fired_sites.add(site)
        consume(value[where.to(value.device)].detach(), rows)

    with hook_site(model, site, consume_once):
        yield

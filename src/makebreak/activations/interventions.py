"""What would the network do if an activation were another one?

with intervene(model, "blocks.1.hook_resid_pre", add(direction), where):
    logits = model(input_ids=tokens).logits

A change takes the activations at the positions chosen, (k, d) in reading order, and returns as many. Interventions
nest; at one site the later one sees what the earlier one left. To patch from another run or another model, set what
was captured there at the same positions: `set_to(captured.at[site])`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.activations.hooks import attach
from makebreak.activations.sites import resolve

Change = Callable[[Tensor], Tensor]


@contextmanager
def intervene(
    model: PreTrainedModel, site: str, change: Change, where: Bool[Tensor, "batch pos"] | None = None
) -> Iterator[None]:
    """Within, every forward has `change` made at a site. Gradients pass through it.

    where: positions, of forwards of these rows; all of every forward where None. Raises ValueError for an unknown site,
    for a forward of other rows or too few positions, or where the change returns another shape; RuntimeError at the
    end where no forward passed the site.
    """
    module, side = resolve(model, site)
    fired = False

    def see(value: Tensor) -> Tensor:
        nonlocal fired
        fired = True
        chosen = (
            torch.ones(value.shape[:2], dtype=torch.bool) if where is None else _fitting(where, value, site)
        )
        rows, positions = (index.to(value.device) for index in chosen.nonzero(as_tuple=True))
        before = value[rows, positions]
        after = change(before)
        if after.shape != before.shape:
            raise ValueError(
                f"{site}: the change returned {tuple(after.shape)}, expected {tuple(before.shape)}"
            )
        return value.index_put((rows, positions), after.to(value.dtype))

    handle = attach(module, side, see)
    try:
        yield
    finally:
        handle.remove()
    if not fired:
        raise RuntimeError(f"the intervention at {site} never took place: no forward passed there")


def _fitting(where: Tensor, value: Tensor, site: str) -> Tensor:
    """`where`, cut to the positions of this forward."""
    n, width = value.shape[:2]
    if len(where) != n or where[:, width:].any() or where.shape[1] < width:
        expected = f"the {tuple(where.shape)} rows and positions of `where`"
        raise ValueError(f"{site}: a forward of {n} rows and {width} positions; expected {expected}")
    return where[:, :width]


def set_to(value: Float[Tensor, "*k d"]) -> Change:
    """value: (d,) for all positions, or (k, d), one for each."""

    def change(x: Tensor) -> Tensor:
        if value.ndim == 2 and value.shape != x.shape:
            raise ValueError(f"set_to: {tuple(value.shape)} values for {tuple(x.shape)} activations")
        return value.to(x).expand_as(x)

    return change


def add(vector: Float[Tensor, "*k d"]) -> Change:
    """vector: (d,), or (k, d), one for each position."""

    def change(x: Tensor) -> Tensor:
        if vector.shape not in (x.shape, x.shape[1:]):
            raise ValueError(f"add: {tuple(vector.shape)} to {tuple(x.shape)} activations")
        return x + vector.to(x)

    return change


def project_out(basis: Float[Tensor, "d m"]) -> Change:
    """Remove what lies in the span of orthonormal columns. Raises ValueError where they are not orthonormal."""
    gram = basis.T.double() @ basis.double()
    if not torch.allclose(
        gram, torch.eye(basis.shape[1], dtype=torch.float64, device=gram.device), atol=1e-5
    ):
        raise ValueError("project_out: expected orthonormal columns; torch.linalg.qr(basis).Q makes them so")
    return lambda x: x - (x @ basis.to(x)) @ basis.to(x).T


def scale(factor: float) -> Change:
    """Times `factor`; 0 is zero ablation."""
    return lambda x: x * factor


def on_units(units: slice, change: Change) -> Change:
    """A change of some units only, as those of one head in `attn.hook_z`."""

    def partial(x: Tensor) -> Tensor:
        out = x.clone()
        out[:, units] = change(x[:, units])
        return out

    return partial

"""Interventions on activations: steering (`add`), ablation (`scale`, `project`) and patching (`patch`).

    with intervene(model, "blocks.1.hook_resid_pre", add(direction), where):
        logits = model(input_ids=tokens).logits

An intervention is a function of the activations at the chosen positions, (k, d) in reading order, that
returns as many. Contexts nest; at one site the inner one receives what the outer one returned. To patch in
activations of another run or another model, capture them there at the same positions:
`patch(batch.activations[site])`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.activations.hooks import hook_site

Intervention = Callable[[Tensor], Tensor]
"""Function of activations (k, d), one row per position, that returns their replacements."""

_ORTHONORMAL_TOLERANCE = 1e-5


@contextmanager
def intervene(
    model: PreTrainedModel,
    site: str,
    intervention: Intervention,
    where: Bool[Tensor, "batch pos"] | None = None,
) -> Iterator[None]:
    """A context in which every forward pass applies an intervention at a site; gradients pass through it.

    Args:
        model: Model whose forward passes are changed.
        site: Site name, as listed by `site_names`.
        intervention: Function of the activations at the chosen positions, (k, d), that returns as many.
        where: Chosen positions, for forward passes of these rows; None for all positions of every pass.

    Raises:
        ValueError: If the site is unknown, a forward pass does not fit `where`, or the intervention returns
            another shape.
        RuntimeError: At the end of the context, if no forward pass reached the site.
    """
    fired = False

    def replace(value: Tensor) -> Tensor:
        nonlocal fired
        fired = True
        if where is None:
            return _checked(intervention, value.flatten(0, 1), site).to(value.dtype).view_as(value)
        selected = _cropped(where, value, site).nonzero(as_tuple=True)
        index = tuple(part.to(value.device) for part in selected)
        return value.index_put(index, _checked(intervention, value[index], site).to(value.dtype))

    with hook_site(model, site, replace):
        yield
    if not fired:
        raise RuntimeError(f"the intervention at {site} was never applied: no forward pass reached the site")


def _checked(intervention: Intervention, original: Tensor, site: str) -> Tensor:
    """What an intervention returns; raises ValueError for another shape."""
    replacement = intervention(original)
    if replacement.shape != original.shape:
        raise ValueError(
            f"{site}: the intervention returned {tuple(replacement.shape)}, expected {tuple(original.shape)}"
        )
    return replacement


def _cropped(where: Tensor, value: Tensor, site: str) -> Tensor:
    """Chosen positions, cropped to the length of this forward pass."""
    n_rows, width = value.shape[:2]
    if len(where) != n_rows or where[:, width:].any() or where.shape[1] < width:
        expected = f"the {tuple(where.shape)} rows and positions of `where`"
        raise ValueError(
            f"{site}: a forward pass of {n_rows} rows and {width} positions; expected {expected}"
        )
    return where[:, :width]


def patch(value: Float[Tensor, "*k d"]) -> Intervention:
    """Activation patching: replace activations by given ones.

    Args:
        value: One vector for all positions, (d,), or one for each position, (k, d).

    Returns:
        The intervention; it raises ValueError if the numbers of positions differ.
    """

    def intervention(x: Tensor) -> Tensor:
        if value.ndim == 2 and value.shape != x.shape:
            raise ValueError(f"patch: {tuple(value.shape)} values for {tuple(x.shape)} activations")
        return value.to(x).expand_as(x)

    return intervention


def add(vector: Float[Tensor, "*k d"]) -> Intervention:
    """Activation steering: add a vector to the activations.

    Args:
        vector: One vector for all positions, (d,), or one for each position, (k, d).

    Returns:
        The intervention; it raises ValueError if the shapes do not fit.
    """

    def intervention(x: Tensor) -> Tensor:
        if vector.shape not in (x.shape, x.shape[1:]):
            raise ValueError(f"add: {tuple(vector.shape)} to {tuple(x.shape)} activations")
        return x + vector.to(x)

    return intervention


def project(basis: Float[Tensor, "d m"]) -> Intervention:
    """Directional ablation: project activations onto the orthogonal complement of a subspace.

    Args:
        basis: Orthonormal columns that span the subspace whose component is removed.

    Returns:
        The intervention x - B Bᵀ x.

    Raises:
        ValueError: If the columns are not orthonormal.
    """
    gram = basis.T.double() @ basis.double()
    identity = torch.eye(basis.shape[1], dtype=torch.float64, device=gram.device)
    if not torch.allclose(gram, identity, atol=_ORTHONORMAL_TOLERANCE):
        raise ValueError("project: expected orthonormal columns; use torch.linalg.qr(basis).Q")
    return lambda x: x - (x @ basis.to(x)) @ basis.to(x).T


def scale(factor: float) -> Intervention:
    """Multiply activations by a factor; 0 is zero ablation."""
    return lambda x: x * factor


def on_units(units: slice, intervention: Intervention) -> Intervention:
    """Restrict an intervention to some units of a site, such as those of one head in `attn.hook_z`.

    Args:
        units: Slice of the last axis.
        intervention: Intervention on the activations of these units, (k, number of units).

    Returns:
        An intervention that leaves the other units as they are.
    """

    def apply_to_units(x: Tensor) -> Tensor:
        result = x.clone()
        result[:, units] = intervention(x[:, units])
        return result

    return apply_to_units

"""Sites of transformers models under their TransformerLens names, each the input or output of a torch module.

A hook at a site therefore receives the tensor itself, or its product with the factor by which a family
multiplies what is added to the residual stream. In `attn.hook_z` the heads are concatenated,
(batch, pos, n_heads · d_head); TransformerLens gives them an axis of their own.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import nn
from transformers import PreTrainedModel

from makebreak.architectures import Side, architecture_of
from makebreak.configs import nearest
from makebreak.models import n_layers


class Site(NamedTuple):
    """One side of a torch module, at which activations are read or changed."""

    module: nn.Module
    """Module at which the hook is attached."""
    side: Side
    """Whether the site is the module's input or its output."""
    scale: float = 1.0
    """Factor between the module's tensor and the activations of the site."""
    block: nn.Module | None = None
    """The block, where rows of the module's tensor may be those of all sequences joined."""


def site_names(model: PreTrainedModel) -> list[str]:
    """Names of all sites of a model, layer by layer, such as `blocks.0.hook_resid_pre`."""
    return [f"blocks.{i}.{site}" for i in range(n_layers(model)) for site in architecture_of(model).sites]


def module_path(model: PreTrainedModel, name: str) -> tuple[str, Side]:
    """Dotted path of the module at a site, and the side.

    Args:
        model: Model whose architecture determines the path.
        name: Site name, as listed by `site_names`.

    Returns:
        Path for `model.get_submodule`, and whether the site is its input or output.

    Raises:
        ValueError: If the site does not exist; the message suggests the nearest name.
    """
    known = site_names(model)
    if name not in known:
        raise ValueError(
            f"site {name!r} does not exist in this {type(model).__name__}; {nearest(name, known)}"
        )
    _, layer, site = name.split(".", 2)
    architecture = architecture_of(model)
    module, side = architecture.sites[site]
    return architecture.path(int(layer), module), side


def resolve_site(model: PreTrainedModel, name: str) -> Site:
    """Module and side of a site.

    Args:
        model: Model with the site.
        name: Site name, as listed by `site_names`.

    Returns:
        The module at which a hook is attached, and whether to its input or its output.

    Raises:
        ValueError: If the site does not exist; the message suggests the nearest name.
    """
    path, side = module_path(model, name)
    architecture = architecture_of(model)
    _, layer, site = name.split(".", 2)
    block = model.get_submodule(architecture.path(int(layer), "")) if architecture.joins_rows else None
    return Site(model.get_submodule(path), side, architecture.site_scale(site, model.config), block)

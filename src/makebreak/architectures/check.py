"""The check that a model is built as its architecture says, once per class and config of models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import nn
from transformers import PreTrainedModel

from makebreak.architectures.base import Architecture, UnknownArchitecture
from makebreak.architectures.forward_check import forward_problems
from makebreak.architectures.registry import architecture_of

_checked: dict[tuple[type, str], Architecture] = {}


def check_architecture(model: PreTrainedModel) -> None:
    """Checks the sites, matrices, parts and norms of a model against its architecture.

    One forward pass over a few tokens shows what the model computes; models without all of their weights are
    checked by their modules and shapes alone.

    Args:
        model: The model. One that is not described passes, as what reads only logits works with any model.

    Raises:
        ValueError: If the model is built otherwise; the message names the first path that does not fit.
    """
    try:
        architecture = architecture_of(model)
    except UnknownArchitecture:
        return
    key = (type(model), model.config.to_json_string())
    if _checked.get(key) == architecture:
        return
    for verb, problems in (("is not built", _problems), ("does not compute", forward_problems)):
        for problem in problems(model, architecture):
            raise ValueError(
                f"{type(model).__name__} {verb} as its architecture {model.config.model_type!r} says: "
                f"{problem}; correct that `Architecture`"
            )
    _checked[key] = architecture


def _problems(model: PreTrainedModel, architecture: Architecture) -> Iterator[str]:
    """Everything that does not fit, in the order in which later checks rely on earlier ones."""
    modules = dict(model.named_modules())
    outside = [*architecture.embeddings, architecture.final_norm, architecture.head, architecture.blocks]
    yield from (f"module {path} does not exist" for path in outside if path not in modules)
    n_layers = int(model.config.num_hidden_layers)
    n_blocks = len(list(modules[architecture.blocks].children()))
    if n_blocks != n_layers:
        yield f"{architecture.blocks} has {n_blocks} blocks, but the config {n_layers}"
    for layer in range(n_layers):
        yield from _missing_modules(modules, architecture, layer)
        yield from _wrong_matrices(model, architecture, layer)
        yield from _wrong_norms(modules, architecture, layer)
    for name in model.state_dict():
        parts = architecture.parts_of(name)
        if len(parts) != 1:
            yield f"parameter {name} belongs to {' and '.join(parts) or 'no part'}, expected one part"


def _missing_modules(
    modules: Mapping[str, nn.Module], architecture: Architecture, layer: int
) -> Iterator[str]:
    """Modules that a table of the architecture names and the block lacks."""
    by_use = {f"site {site}": (module,) for site, (module, _) in architecture.sites.items()}
    by_use |= {f"matrix {matrix}": (module,) for matrix, module in architecture.matrices.items()}
    by_use |= {f"part {part}": members for part, members in architecture.parts.items()}
    by_use |= {f"norm {norm}": (norm, *readers) for norm, readers in architecture.norms.items()}
    for use, members in by_use.items():
        for path in (architecture.path(layer, module) for module in members):
            if path not in modules:
                yield f"module {path} ({use}) does not exist"


def _wrong_matrices(model: PreTrainedModel, architecture: Architecture, layer: int) -> Iterator[str]:
    """Modules whose weight has another shape than the config says, by rows and columns."""
    shapes = architecture.matrix_shapes(model.config)
    unknown = [matrix for matrix in architecture.matrices if matrix not in shapes]
    yield from (f"matrix {matrix} has no shape: expected one of {', '.join(shapes)}" for matrix in unknown)
    for matrix, module in architecture.matrices.items():
        path = architecture.path(layer, module)
        joint = architecture.joint_matrices(matrix)
        expected = (sum(shapes[name][0] for name in joint), shapes[matrix][1])
        holder = model.get_submodule(path)
        weight = getattr(holder, "weight", None)
        if weight is None and any(True for _ in holder.buffers()):  # packed, as of a quantised model
            continue
        if weight is None:
            yield f"module {path} (matrix {matrix}) has no weight"
        elif weight.is_floating_point():  # integers are packed too
            shape = tuple(weight.shape)[::-1] if architecture.stores_transposed else tuple(weight.shape)
            if shape != expected:
                yield f"matrix {matrix} at {path} is {shape} as (d_out, d_in), expected {expected}"


def _wrong_norms(modules: Mapping[str, nn.Module], architecture: Architecture, layer: int) -> Iterator[str]:
    """Norms of a block that are not listed or listed in error, and readers that hold no matrix."""
    block = modules[architecture.path(layer, "")]
    weights = {path: getattr(module, "weight", None) for path, module in block.named_modules()}
    gains = {path for path, weight in weights.items() if weight is not None and weight.ndim == 1}
    for norm in sorted(gains - architecture.norms.keys()):
        yield f"norm {architecture.path(layer, norm)} is not listed"
    for norm, readers in architecture.norms.items():
        if norm not in gains:
            yield f"norm {architecture.path(layer, norm)} has no vector of weights"
        for reader in set(readers) - set(architecture.matrices.values()):
            yield f"{architecture.path(layer, reader)} reads norm {norm}, but holds no matrix"

"""Right null spaces: how much the MLP's matrices pass on of their inputs at the end of text.

A change that lies in the left null space of W_in is not silent, since the activation function and W_out read
it. What is silent is a change of the post-activations in the kernel (right null space) of W_out. The other
reading of a null space is that the input a of W_in moves towards W_in's kernel, so that the gain ‖W a‖ / ‖a‖
falls.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor
from transformers import PreTrainedModel

from makebreak.geometry import Subspace, left_null_space, subspace_share
from makebreak.mechanism.end_of_text import end_of_text_activations
from makebreak.models import check_same_shapes, mlp_input_matrices, n_layers, weight_matrix
from makebreak.prompts import Requests
from makebreak.revisions import cache_revision


class KernelShareRow(NamedTuple):
    """Share of the change of post-activations in the kernel of W_out, means over requests."""

    layer: int
    """Layer of the MLP."""
    family: str
    """Family of the requests."""
    n: int
    """Number of requests whose post-activations changed."""
    chance: float
    """dim ker(W_out) / d_mlp, the share of a random change."""
    share: float | None
    """Share of ‖post_tuned - post_base‖² in the kernel of the base's W_out; None where that kernel is zero or
    nothing changed."""
    tuned_share: float | None
    """The same for the kernel of the tuned model's W_out."""
    other_seed_share: float | None
    """The same for that of a base of another pretraining seed; None where no such base is given."""


class InputGainRow(NamedTuple):
    """Gain of a matrix on its inputs in the tuned model and in the base, means over requests."""

    layer: int
    """Layer of the MLP."""
    matrix: str
    """Matrix that reads the MLP's input, `mlp.W_in` or, in gated MLPs, `mlp.W_gate`."""
    family: str
    """Family of the requests."""
    tuned_gain: float
    """‖W a‖ / ‖a‖ of the tuned model's matrix on the tuned model's inputs."""
    base_weight_gain: float
    """The same of the base's matrix on the tuned model's inputs: lower where these move into its kernel."""
    base_gain: float
    """The same of the base's matrix on the base's inputs."""


@cache_revision(1)
def kernel_share_rows(
    requests: Mapping[str, Requests],
    *,
    base: PreTrainedModel,
    tuned: PreTrainedModel,
    other_base: PreTrainedModel | None = None,
) -> list[KernelShareRow]:
    """Share of the change of the MLP's post-activations that W_out cannot pass on, at the end of text.

    Args:
        requests: Requests by family.
        base: The model before alignment.
        tuned: The model after it.
        other_base: A base of another pretraining seed, for a control.

    Returns:
        One row per layer and family.
    """
    check_same_shapes(base=base, tuned=tuned)
    layers = range(n_layers(base))
    sites = [f"blocks.{layer}.mlp.hook_post" for layer in layers]
    models = [tuned] if other_base is None else [tuned, other_base]
    kernels = [_kernel(base, layer) for layer in layers]
    others = [[_kernel(model, layer) for model in models] for layer in layers]
    rows = []
    for family, batch in requests.items():
        before, after = (end_of_text_activations(model, batch, sites) for model in (base, tuned))
        for layer in layers:
            change = after[layer].double() - before[layer].double()
            change = change[change.any(dim=1)]
            shares = [_mean_share(change, kernel) for kernel in (kernels[layer], *others[layer])]
            shares += [None] * (3 - len(shares))
            rows.append(KernelShareRow(layer, family, len(change), kernels[layer].chance, *shares))
    return rows


def _kernel(model: PreTrainedModel, layer: int) -> Subspace:
    """Kernel of W_out: the left null space of its transpose."""
    return left_null_space(weight_matrix(model, f"blocks.{layer}.mlp.W_out").cpu().T)


def _mean_share(vectors: Tensor, kernel: Subspace) -> float | None:
    """Mean share of the vectors' energy in a kernel; None where it is zero or there are no vectors."""
    share = subspace_share(vectors, kernel) if len(vectors) else None
    return None if share is None else float(share.mean())


@cache_revision(1)
def input_gain_rows(
    requests: Mapping[str, Requests], *, base: PreTrainedModel, tuned: PreTrainedModel
) -> list[InputGainRow]:
    """Gain of the matrices that read the MLP's input at the end of text, tuned and base.

    Args:
        requests: Requests by family.
        base: The model before alignment.
        tuned: The model after it.

    Returns:
        One row per layer, matrix and family.
    """
    check_same_shapes(base=base, tuned=tuned)
    layers = range(n_layers(base))
    sites = [f"blocks.{layer}.mlp.hook_in" for layer in layers]
    rows = []
    for family, batch in requests.items():
        base_inputs, inputs = (end_of_text_activations(model, batch, sites) for model in (base, tuned))
        for layer in layers:
            for matrix in mlp_input_matrices(base):
                name = f"blocks.{layer}.{matrix}"
                w, aligned_w = (weight_matrix(model, name).cpu() for model in (base, tuned))
                pairs = ((aligned_w, inputs), (w, inputs), (w, base_inputs))
                gains = [_gain(weight, activations[layer]) for weight, activations in pairs]
                rows.append(InputGainRow(layer, matrix, family, *gains))
    return rows


def _gain(weight: Tensor, inputs: Tensor) -> float:
    """Mean of ‖W a‖ / ‖a‖."""
    a = inputs.double()
    return float(((a @ weight.double().T).norm(dim=1) / a.norm(dim=1)).mean())

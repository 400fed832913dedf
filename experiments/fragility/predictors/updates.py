"""The update ΔW of a model: its matrices minus those of the base."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from makebreak.geometry import Spectrum, spectrum
from makebreak.model_zoo import Subject
from makebreak.models import mlp_input_matrices, n_layers, weight_matrix

_OTHERS = ("attn.W_Q", "attn.W_K", "attn.W_V", "attn.W_O", "mlp.W_out")


def update_matrices(subject: Subject) -> Mapping[str, Tensor]:
    """ΔW of every matrix of the blocks that alignment has changed, by name, (d_out, d_in)."""
    names = [
        f"blocks.{layer}.{matrix}"
        for layer in range(n_layers(subject.model))
        for matrix in (*_OTHERS, *mlp_input_matrices(subject.model))
    ]
    updates = {n: weight_matrix(subject.model, n) - weight_matrix(subject.base, n) for n in names}
    return {name: update.detach() for name, update in updates.items() if update.any()}


def input_updates(subject: Subject) -> Mapping[str, Tensor]:
    """`update_matrices` of the matrices that read the MLPs' inputs."""
    matrices = mlp_input_matrices(subject.model)
    return {
        n: u
        for n, u in update_matrices(subject).items()
        if n.partition(".mlp.")[2] in [m[4:] for m in matrices]
    }


def update_spectra(subject: Subject) -> list[Spectrum]:
    """Concentration of the singular values of every matrix of `update_matrices`."""
    spectra = [spectrum(update) for update in update_matrices(subject).values()]
    return [each for each in spectra if each is not None]

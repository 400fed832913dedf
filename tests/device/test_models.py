"""Models, their weights and their geometry on an accelerator; saved models are the same on every device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from makebreak.activations import forward
from makebreak.architectures import check_architecture
from makebreak.geometry import (
    ClassMeanFitter,
    MomentFitter,
    Subspace,
    energy_curve,
    energy_share,
    output_spaces,
    principal_angles,
    random_subspace,
    read_gain,
    row_sines,
    separation,
    sines,
    spectrum,
    subspace_share,
)
from makebreak.models import (
    extrapolate_weights,
    interpolate_weights,
    load_model,
    matrix_names,
    save_model,
    stitch_models,
    weight_matrix,
)
from tests.activations.networks import ARCHITECTURES, network, tokens
from tests.device.both import assert_same, assert_same_on
from tests.training.short_runs import SYMBOLS, WORLD
from tests.training.short_runs import network as world_network


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_architectures(device: torch.device, architecture: str) -> None:
    def read(model: PreTrainedModel) -> Any:
        check_architecture(model)
        with torch.no_grad():
            logits = forward(model, tokens()).logits.cpu()
        return logits, {name: weight_matrix(model, name).cpu() for name in matrix_names(model)}

    assert_same_on(device, read, network(architecture))


def test_interpolation(device: torch.device) -> None:
    def mixed(one: PreTrainedModel, other: PreTrainedModel) -> list[torch.Tensor]:
        models = [
            interpolate_weights({"blocks.0.mlp_in": 0.5}, base=one, other=other),
            extrapolate_weights(1.5, base=one, tuned=other),
            stitch_models(one, other, 1),
            stitch_models(one, other.cpu(), 1),  # type: ignore[arg-type]
        ]
        assert {model.device for model in models[:3]} == {one.device}
        return [tensor.cpu() for model in models for tensor in model.state_dict().values()]

    assert_same_on(device, mixed, world_network(1).eval(), world_network(2).eval())


def test_saved_models(device: torch.device, tmp_path: Path) -> None:
    model = world_network(1).eval()
    save_model(model.to(device), tmp_path, WORLD.vocabulary.symbols)  # type: ignore[arg-type]
    loaded = load_model(tmp_path, symbols=SYMBOLS)
    assert loaded.device.type == "cpu"
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor.cpu())


def test_geometry(device: torch.device) -> None:
    """Functions of tensors stay on the tensors' device; numbers and fitted moments come back on the CPU."""
    random = torch.Generator().manual_seed(0)
    delta, base, a, b = (torch.randn(shape, generator=random) for shape in ((9, 6), (9, 6), (8, 6), (7, 6)))
    z = torch.randn(5, 9, generator=random)

    def results(to: torch.device) -> list[Any]:
        d, w, x, y = delta.to(to), base.to(to), a.to(to), b.to(to)
        moments = MomentFitter()
        moments.update(x)
        means = ClassMeanFitter(1)
        for unsafe, states in ((False, x), (True, y)):
            means.update(states, unsafe=unsafe, group=torch.zeros(len(states), dtype=torch.int64, device=to))
        spaces, moment = output_spaces(w), moments.result.second_moment
        random_space = Subspace(random_subspace(9, 3, 0).basis.to(to))
        share = subspace_share(z.to(to), random_space)
        curve = energy_curve(d, w, moment.to(to), moment.to(to))
        angles = principal_angles(spaces.column90, random_space)
        tensors = [
            sines(d, w),
            row_sines(w + d, w),
            share,
            curve,
            angles,
            *read_gain(d, w, x).__dict__.values(),
        ]
        return [
            moments.result,
            means.result,
            separation(means.result, x.cpu(), y.cpu()),
            spectrum(d),
            energy_share(d, spaces.left_null),
            *(t.cpu() if isinstance(t, torch.Tensor) else t for t in tensors),
        ]

    assert_same(results(device), results(torch.device("cpu")))

"""Every registered architecture describes its models: sites, residual stream, matrices and norms."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from makebreak.activations import capture, site_names
from makebreak.architectures import architecture_of, check_architecture, registered_architectures
from makebreak.models import bias_vector, matrix_names, weight_matrix
from makebreak.weight_landscape import fold_norms, norm_readers, rescale_norms
from tests.architectures.tiny_models import D_VOCAB, VARIANTS, tiny_model

MODEL_TYPES = [*registered_architectures(), *VARIANTS]
TOKENS = torch.randint(0, D_VOCAB, (3, 9), generator=torch.Generator().manual_seed(0))


def activations(model: PreTrainedModel) -> dict[str, Tensor]:
    """Activations of all sites at all positions; `capture` fails unless each fires once."""
    [batch] = capture(model, TOKENS, site_names(model), torch.ones_like(TOKENS, dtype=torch.bool))
    return dict(batch.activations)


def logits(model: PreTrainedModel) -> Tensor:
    with torch.no_grad():
        return model(input_ids=TOKENS).logits


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_sites_fire_once_and_add_up_to_the_residual_stream(model_type: str) -> None:
    model = tiny_model(model_type)
    check_architecture(model)
    by_site = activations(model)
    assert list(by_site) == site_names(model)
    for layer in range(2):
        first = "ln1.hook_normalized" if architecture_of(model).overwrites_stream else "hook_resid_pre"
        before, after = (by_site[f"blocks.{layer}.{site}"] for site in (first, "hook_resid_post"))
        attention, mlp = (by_site[f"blocks.{layer}.hook_{part}_out"] for part in ("attn", "mlp"))
        torch.testing.assert_close(after, before + attention + mlp, atol=1e-4, rtol=1e-4)
        between = by_site.get(f"blocks.{layer}.hook_resid_mid")
        if between is not None:
            torch.testing.assert_close(between, before + attention, atol=1e-4, rtol=1e-4)
        assert min(attention.abs().max(), mlp.abs().max()) > 0.1
    torch.testing.assert_close(by_site["blocks.1.hook_resid_pre"], by_site["blocks.0.hook_resid_post"])


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_matrices_reproduce_their_modules(model_type: str) -> None:
    """Of matrices that are stored jointly together; `test_weights` tests their order."""
    model = tiny_model(model_type)
    architecture, inputs_outputs = architecture_of(model), {}

    def record(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        inputs_outputs[module] = (inputs[0], output.clone())  # Falcon adds to it in place

    paths = [architecture.path(1, module) for module in architecture.matrices.values()]
    handles = [model.get_submodule(path).register_forward_hook(record) for path in set(paths)]
    logits(model)
    for handle in handles:
        handle.remove()
    assert len(matrix_names(model)) == 2 * len(architecture.matrices)
    for matrix, path in zip(architecture.matrices, paths, strict=True):
        names = [f"blocks.1.{name}" for name in architecture.joint_matrices(matrix)]
        weight = torch.cat([weight_matrix(model, name) for name in names])
        bias = torch.cat([bias_vector(model, name) for name in names])
        states, output = inputs_outputs[model.get_submodule(path)]
        result = states @ weight.T + bias
        if len(names) > 1:
            result, output = result.sort(dim=-1).values, output.sort(dim=-1).values
        torch.testing.assert_close(result, output, atol=1e-4, rtol=1e-4)
        assert (
            tuple(weight_matrix(model, f"blocks.1.{matrix}").shape)
            == (architecture.matrix_shapes(model.config)[matrix])
        )


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_mlp_sites_are_the_inputs_and_outputs_of_the_matrices(model_type: str) -> None:
    model = tiny_model(model_type)
    by_site, matrices = activations(model), architecture_of(model).matrices
    if "mlp.W_in" not in matrices:
        assert architecture_of(model).has_experts
        return
    before, by_matrix = by_site["blocks.1.mlp.hook_in"], {"mlp.W_in": "blocks.1.mlp.hook_pre"}
    if "mlp.W_gate" in matrices:
        by_matrix = {"mlp.W_gate": "blocks.1.mlp.hook_pre", "mlp.W_in": "blocks.1.mlp.hook_pre_linear"}
    for matrix, site in by_matrix.items():
        if site not in by_site:  # of matrices that share a module, no module receives or returns it
            continue
        name = f"blocks.1.{matrix}"
        result = before @ weight_matrix(model, name).T + bias_vector(model, name)
        torch.testing.assert_close(result, by_site[site], atol=1e-4, rtol=1e-4)
    if architecture_of(model).normalises_writes:
        return
    for name, states, written in (
        ("blocks.1.attn.W_O", "attn.hook_z", "hook_attn_out"),
        ("blocks.1.mlp.W_out", "mlp.hook_post", "hook_mlp_out"),
    ):
        result = by_site[f"blocks.1.{states}"] @ weight_matrix(model, name).T + bias_vector(model, name)
        result = result * architecture_of(model).site_scale(written, model.config)
        torch.testing.assert_close(result, by_site[f"blocks.1.{written}"], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_norms_are_read_by_their_readers(model_type: str) -> None:
    """Gains are scaled against their readers without effect; folding makes them 1 where all have readers."""
    model = tiny_model(model_type)
    architecture, expected = architecture_of(model), logits(model)
    scales = {
        name: torch.exp(torch.randn(16, generator=torch.Generator().manual_seed(i)))
        for i, name in enumerate(norm_readers(model))
    }
    torch.testing.assert_close(logits(rescale_norms(model, scales)), expected, atol=1e-3, rtol=1e-3)
    for name, scale in scales.items():
        torch.testing.assert_close(
            logits(rescale_norms(model, {name: scale})), expected, atol=1e-3, rtol=1e-3
        )
        with torch.no_grad():
            changed = rescale_norms(model, {name: scale})
            changed.get_submodule(name).load_state_dict(model.get_submodule(name).state_dict())
            assert (logits(changed) - expected).abs().max() > 1e-2, "negative control: the readers alone"
    if architecture.normalises_writes:
        with pytest.raises(ValueError, match="normalises what its blocks write"):
            fold_norms(model)
        return
    if architecture.has_experts:
        with pytest.raises(ValueError, match="experts"):
            fold_norms(model)
        return
    folded = fold_norms(model)
    torch.testing.assert_close(logits(folded), expected, atol=1e-3, rtol=1e-3)
    for name in scales:
        gain = folded.get_parameter(f"{name}.weight") + architecture.gain_offset
        torch.testing.assert_close(gain, torch.ones(16))

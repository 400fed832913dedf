"""Interpolated and stitched networks, part by part."""

from __future__ import annotations

import copy
import inspect

import pytest
import torch
from transformers import PreTrainedModel

from makebreak.activations import capture, intervene, patch
from makebreak.models import extrapolate_weights, interpolate_weights, part_names, part_of, stitch_models
from tests.activations.networks import ARCHITECTURES, N_CTX, network, tokens

EVERYWHERE = torch.ones(5, N_CTX, dtype=torch.bool)


def fine_tuned_copy(model: PreTrainedModel) -> PreTrainedModel:
    other = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return other


def logits(model: PreTrainedModel) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=tokens()).logits


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_weight_belongs_to_one_part(architecture: str) -> None:
    model = network(architecture)
    parts = {name: part_of(model, name) for name in model.state_dict()}
    assert list(dict.fromkeys(sorted(parts.values()))) == sorted(part_names(model))
    for name, part in parts.items():
        if "attn" in name or "attention.dense" in name or "query_key_value" in name:
            assert part.endswith("attn"), name
        if "mlp" in name:
            assert part.endswith(("mlp_in", "mlp_gate", "mlp_out")), name
    expected = {
        "gpt2": {"transformer.h.0.ln_2.weight": "blocks.0.mlp_in", "transformer.ln_f.bias": "unembed"},
        "jain2024": {
            "transformer.h.0.ln_1.weight": "blocks.0.attn",
            "transformer.h.1.mlp.c_fc.bias": "blocks.1.mlp_in",
        },
        "llama": {
            "model.layers.1.post_attention_layernorm.weight": "blocks.1.mlp_in",
            "model.layers.1.mlp.gate_proj.weight": "blocks.1.mlp_gate",
            "model.norm.weight": "unembed",
        },
        "gemma3": {
            "model.layers.1.post_attention_layernorm.weight": "blocks.1.attn",
            "model.layers.1.post_feedforward_layernorm.weight": "blocks.1.mlp_out",
        },
        "neox": {"gpt_neox.layers.0.post_attention_layernorm.weight": "blocks.0.mlp_in"},
        "qwen2": {"model.layers.0.self_attn.q_proj.bias": "blocks.0.attn", "model.norm.weight": "unembed"},
        "qwen3": {"model.layers.0.self_attn.q_norm.weight": "blocks.0.attn", "lm_head.weight": "unembed"},
    }[architecture]
    assert {name: parts[name] for name in expected} == expected


@pytest.mark.parametrize("architecture", ["gpt2", "jain2024", "llama", "qwen3", "neox"])
def test_stitching_equals_patching_the_states(architecture: str) -> None:
    base = network(architecture)
    aligned = fine_tuned_copy(base)
    for layer in (0, 1):
        site = f"blocks.{layer}.hook_resid_pre"
        for lower, upper in ((aligned, base), (base, aligned)):
            [states] = capture(lower, tokens(), [site], EVERYWHERE)
            with intervene(upper, site, patch(states.activations[site]), EVERYWHERE):
                expected = logits(upper)
            assert torch.allclose(logits(stitch_models(lower, upper, layer)), expected, atol=1e-4), layer
            assert not torch.allclose(expected, logits(upper), atol=1e-2)
    assert not torch.equal(logits(stitch_models(aligned, base, 2)), logits(aligned)), (
        "the unembedding is the base's"
    )


def test_interpolation_is_exact_at_both_ends() -> None:
    base = network("gpt2")
    aligned = fine_tuned_copy(base)
    assert torch.equal(
        logits(interpolate_weights({}, base=base, other=aligned)),
        logits(extrapolate_weights(0.0, base=base, tuned=aligned)),
    )
    for mixture, model in (
        (extrapolate_weights(0.0, base=base, tuned=aligned), base),
        (extrapolate_weights(1.0, base=base, tuned=aligned), aligned),
    ):
        assert all(torch.equal(w, model.state_dict()[name]) for name, w in mixture.state_dict().items())
    one = interpolate_weights({"blocks.1.mlp_in": 1.5}, base=base, other=aligned)
    for name, weight in one.state_dict().items():
        before, after = base.state_dict()[name], aligned.state_dict()[name]
        coefficient = 1.5 if part_of(base, name) == "blocks.1.mlp_in" else 0.0
        assert torch.allclose(weight, before + coefficient * (after - before), atol=1e-6), name
    assert all(torch.equal(w, network("gpt2").state_dict()[name]) for name, w in base.state_dict().items())


def test_unfit_parts_and_models_are_errors() -> None:
    base = network("gpt2")
    with pytest.raises(
        ValueError, match=r"part 'blocks.0.mlp' does not exist in this GPT2LMHeadModel; did you mean"
    ):
        interpolate_weights({"blocks.0.mlp": 1.0}, base=base, other=base)
    with pytest.raises(ValueError, match="not checkpoints of one model"):
        interpolate_weights({}, base=base, other=network("llama"))
    with pytest.raises(ValueError, match=r"layer 3: expected 0 … 2"):
        stitch_models(base, base, 3)
    gemma = network("gemma3")
    assert gemma.config.tie_word_embeddings
    with pytest.raises(ValueError, match="this model ties them"):
        interpolate_weights({"embed": 1.0}, base=gemma, other=fine_tuned_copy(gemma))
    both = interpolate_weights({"embed": 1.0, "unembed": 1.0}, base=gemma, other=fine_tuned_copy(gemma))
    assert torch.equal(both.get_input_embeddings().weight, both.get_output_embeddings().weight)
    assert inspect.getdoc(stitch_models)

"""A stack of models computes what its members compute, each on rows of its own."""

from __future__ import annotations

import importlib
from dataclasses import replace

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from makebreak.activations import intervene
from makebreak.models import (
    MODEL_SIZES,
    by_request,
    create_model,
    member_rows,
    member_weights,
    stack_models,
    stack_size,
)
from makebreak.training import LoRA

VOCABULARY, CONTEXT, BATCH = 13, 11, 5


def networks(architecture: str, n: int = 3):
    """Models far from uniform and from one another."""
    config = replace(MODEL_SIZES["tiny"], architecture=architecture)
    models = [create_model(config, d_vocab=VOCABULARY, n_ctx=CONTEXT, seed=seed) for seed in range(n)]
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for model in models:
            for parameter in model.parameters():
                parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return models


def tokens(n: int = 3) -> torch.Tensor:
    """(batch, members, pos) tokens, other ones for each member."""
    return torch.randint(VOCABULARY, (BATCH, n, CONTEXT), generator=torch.Generator().manual_seed(1))


def logits(stack, ids: torch.Tensor) -> torch.Tensor:
    return by_request(stack, stack(input_ids=member_rows(stack, ids)).logits)


@pytest.mark.parametrize("architecture", ["gpt2", "jain2024", "llama"])
def test_stack_computes_what_its_members_compute(architecture: str) -> None:
    models, ids = networks(architecture), tokens()
    stack = stack_models(models)
    assert (stack_size(stack), stack_size(models[0])) == (3, None)
    results = logits(stack, ids)
    for i, model in enumerate(models):
        assert torch.allclose(results[:, i], model(input_ids=ids[:, i]).logits, atol=1e-5, rtol=1e-5)
    other = (results[:, 0] - models[1](input_ids=ids[:, 0]).logits).abs().max()
    assert other > 0.1, "the members differ"


def test_gradient_of_a_member_comes_from_its_own_rows() -> None:
    models, ids = networks("gpt2"), tokens()
    stack = stack_models(models)
    logits(stack, ids)[:, 1].square().sum().backward()
    models[1](input_ids=ids[:, 1]).logits.square().sum().backward()
    for name, parameter in stack.named_parameters():
        assert parameter.grad is not None
        assert parameter.grad[0].abs().max() == parameter.grad[2].abs().max() == 0
        assert torch.allclose(parameter.grad[1], models[1].get_parameter(name).grad, atol=1e-4, rtol=1e-4)


def test_members_are_read_back_and_models_are_not_changed() -> None:
    models = networks("llama")
    before = [{name: p.clone() for name, p in model.named_parameters()} for model in models]
    stack = stack_models(models)
    with torch.no_grad():
        for parameter in stack.parameters():
            parameter[2] += 1
    for i, weights in enumerate(before):
        assert all(torch.equal(models[i].get_parameter(name), w) for name, w in weights.items())
        shift = 1 if i == 2 else 0
        assert all(torch.equal(w, weights[name] + shift) for name, w in member_weights(stack, i).items())


def test_intervention_reaches_one_member_alone() -> None:
    models, ids = networks("gpt2"), tokens()
    stack = stack_models(models)
    where = by_request(stack, torch.zeros(3 * BATCH, CONTEXT, dtype=torch.bool)).clone()
    where[:, 1] = True
    plain = logits(stack, ids)
    with intervene(stack, "blocks.0.hook_resid_post", lambda x: 2 * x, member_rows(stack, where)):
        changed = logits(stack, ids)
    assert torch.equal(plain[:, [0, 2]], changed[:, [0, 2]])
    assert (plain[:, 1] - changed[:, 1]).abs().max() > 1e-3


def test_low_rank_adapters_are_stacked() -> None:
    models = [LoRA(rank=2).attach(model, seed=i) for i, model in enumerate(networks("gpt2", 2))]
    with torch.no_grad():
        for model in models:
            for name, parameter in model.named_parameters():
                parameter.add_(0.1 if "lora_B" in name else 0)
    stack, ids = stack_models(models), tokens(2)
    assert {n for n, p in stack.named_parameters() if p.requires_grad} == {
        n for n, p in models[0].named_parameters() if p.requires_grad
    }
    results = logits(stack, ids)
    for i, model in enumerate(models):
        assert torch.allclose(results[:, i], model(input_ids=ids[:, i]).logits, atol=1e-5, rtol=1e-5)


def test_what_has_no_stacked_form_is_refused() -> None:
    small = create_model(MODEL_SIZES["tiny"], d_vocab=VOCABULARY, n_ctx=CONTEXT, seed=0)
    other = create_model(MODEL_SIZES["tiny"], d_vocab=VOCABULARY + 1, n_ctx=CONTEXT, seed=0)
    with pytest.raises(ValueError, match="model 1 has other parameters than model 0"):
        stack_models([small, other])
    tied = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=7, n_positions=8, n_embd=8, n_layer=1, n_head=2, bos_token_id=None, eos_token_id=None
        )
    )
    with pytest.raises(ValueError, match="has tied parameters"):
        stack_models([tied, tied])
    small.transformer.h[0].ln_1 = torch.nn.GroupNorm(1, 32)
    with pytest.raises(
        ValueError, match=r"transformer\.h\.0\.ln_1 is a GroupNorm, which has no stacked form"
    ):
        stack_models([small, small])
    stack = stack_models(networks("gpt2"))
    with pytest.raises(ValueError, match="a stack of models takes whole sequences"):
        stack(input_ids=member_rows(stack, tokens()), attention_mask=torch.zeros(15, CONTEXT).long())


def test_attention_of_more_rows_than_one_call_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """In parts of three rows as in one call."""
    module = importlib.import_module(stack_models.__module__)
    generator = torch.Generator().manual_seed(0)
    states = [torch.randn(8, 2, 5, 4, generator=generator) for _ in range(3)]
    together, _ = module._causal_attention(torch.nn.Identity(), *states, None)
    monkeypatch.setattr(module, "_MOST_ROWS", 3)
    parts, _ = module._causal_attention(torch.nn.Identity(), *states, None)
    torch.testing.assert_close(parts, together)

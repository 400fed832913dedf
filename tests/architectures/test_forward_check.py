"""A model that computes otherwise than its architecture says is refused, by one pass that leaves no trace."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from makebreak.architectures import architecture_of, check_architecture, registered_architectures, registry
from makebreak.architectures.forward_check import forward_problems
from tests.activations.networks import n_hooks
from tests.architectures.tiny_models import tiny_model

LLAMA, GRANITE, BLOOM = (registered_architectures()[name] for name in ("llama", "granite", "bloom"))
WRONG = {
    "attention before the norm of writes": (
        "gemma2",
        {"sites": {"hook_attn_out": ("self_attn.o_proj", "output")}},
        "blocks.0.hook_resid_mid is not the sum of blocks.0.hook_resid_pre and blocks.0.hook_attn_out",
    ),
    "residual multiplier": ("granite", {"write_scale": ""}, "hook_resid_mid is not the sum of"),
    "exchanged gate": (
        "llama",
        {"matrices": {"mlp.W_in": "mlp.gate_proj", "mlp.W_gate": "mlp.up_proj"}},
        "blocks.0.mlp.hook_pre_linear is not mlp.W_in times blocks.0.mlp.hook_in",
    ),
    "a site that is never reached": (
        "llama",
        {"sites": {"mlp.hook_post": ("self_attn", "input")}, "returns_tuples": True},
        "site blocks.0.mlp.hook_post gives no states|block 0 returns a tensor|but mlp.W_out reads 40",
    ),
    "tuple": ("bloom", {"returns_tuples": False}, "block 0 returns a tuple: expected returns_tuples=True"),
    "input for output": (
        "gptj",
        {"sites": {"mlp.hook_in": ("ln_1", "input")}},
        "blocks.0.mlp.hook_pre is not mlp.W_in times blocks.0.mlp.hook_in",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_computations_are_refused(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, changes, message = WRONG[case]
    right = registered_architectures()[name]
    check_architecture(tiny_model(name))
    tables = ("sites", "matrices")
    merged = {k: getattr(right, k) | v if k in tables else v for k, v in changes.items()}  # type: ignore[operator]
    table = dict(registered_architectures()) | {name: replace(right, **merged)}
    monkeypatch.setattr(registry, "_registered", table)
    with pytest.raises(ValueError, match=message):
        check_architecture(tiny_model(name))


def test_the_check_leaves_no_trace() -> None:
    """Random state, modes of modules, weights and hooks are as before."""
    model = tiny_model("llama").train()
    model.model.norm.eval()
    modes = [module.training for module in model.modules()]
    state, weights = torch.get_rng_state(), [p.clone() for p in model.parameters()]
    assert list(forward_problems(model, architecture_of(model))) == []
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), weights, strict=True))
    assert n_hooks(model) == 0


def test_models_without_weights_are_not_run() -> None:
    """On the device `meta`, and with weights packed into integers."""
    model = tiny_model("llama")
    wrong = replace(LLAMA, sites={**LLAMA.sites, "hook_mlp_out": ("mlp.up_proj", "output")})
    assert list(forward_problems(model, wrong))
    packed = torch.nn.Parameter(torch.zeros(40, 16, dtype=torch.uint8), requires_grad=False)
    model.model.layers[0].mlp.up_proj.weight = packed
    assert list(forward_problems(model, wrong)) == []
    assert list(forward_problems(model.to("meta"), wrong)) == []

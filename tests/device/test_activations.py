"""Activations, hooks and interventions on an accelerator."""

from __future__ import annotations

import pytest
import torch
from transformers import PreTrainedModel

from makebreak.activations import (
    PrefixCache,
    add,
    capture,
    forward,
    intervene,
    logits_at,
    on_units,
    patch,
    project,
    scale,
    stream,
)
from makebreak.prompts import Sequences
from tests.activations.networks import network, tokens
from tests.device.both import assert_same_on

TOKENS = tokens()
WHERE = torch.zeros_like(TOKENS, dtype=torch.bool)
WHERE[:, 3], WHERE[1, 5] = True, True
SITES = ["blocks.0.attn.hook_z", "blocks.1.hook_resid_post"]


@pytest.mark.parametrize("architecture", ["gpt2", "gemma3"])
def test_captured_activations(device: torch.device, architecture: str) -> None:
    def captured(model: PreTrainedModel) -> list:
        return list(capture(model, TOKENS, SITES, WHERE, mask=torch.ones_like(WHERE), batch_size=2))

    assert_same_on(device, captured, network(architecture))


def test_consumers_get_what_is_on_the_device(device: torch.device) -> None:
    devices = []
    model = network("gpt2").to(device)  # type: ignore[arg-type]
    stream(
        model, TOKENS, {SITES[0]: lambda states, rows: devices.append((states.device, rows.device))}, WHERE
    )
    assert devices == [(device, torch.device("cpu"))]


@pytest.mark.parametrize("where", [None, WHERE])
def test_interventions(device: torch.device, where: torch.Tensor | None) -> None:
    vector = torch.randn(16, generator=torch.Generator().manual_seed(0))
    basis = torch.linalg.qr(vector[:, None]).Q
    changes = [add(vector), patch(vector), project(basis), scale(0.5), on_units(slice(2, 5), scale(0.0))]

    def logits(model: PreTrainedModel) -> list[torch.Tensor]:
        results = []
        for change in changes:
            with torch.no_grad(), intervene(model, SITES[1], change, where), logits_at(model, WHERE):
                results.append(forward(model, TOKENS).logits.cpu())
        return results

    assert_same_on(device, logits, network("llama"))


def test_gradient_of_a_vector_on_the_cpu(device: torch.device) -> None:
    def gradient(model: PreTrainedModel) -> torch.Tensor:
        offset = torch.zeros(16, requires_grad=True)
        with intervene(model, "blocks.1.hook_resid_pre", add(offset)):
            loss = forward(model, TOKENS).logits.log_softmax(-1)[..., 3].sum()
        return torch.autograd.grad(loss, offset)[0]

    assert_same_on(device, gradient, network("gpt2"))


def test_prefix_caches(device: torch.device) -> None:
    shared = TOKENS.clone()
    shared[:, :9] = shared[0, :9]
    batch = Sequences(shared, torch.zeros_like(shared, dtype=torch.bool), torch.full((5,), 10))

    def logits(model: PreTrainedModel) -> list[torch.Tensor]:
        results = []
        for cache in (
            PrefixCache.shared(model, shared, torch.arange(12) < 9),
            PrefixCache.of_rows(model, shared, 8).select(torch.arange(5)),
        ):
            assert cache.n_tokens >= 8
            with torch.no_grad():
                results.append(forward(model, cache.remainder(batch).tokens, cache=cache).logits.cpu())
        return results

    assert_same_on(device, logits, network("qwen3"))

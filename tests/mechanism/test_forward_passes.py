"""What stitching and gradients cost: forward passes per cut, and logits at one position per prompt."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from makebreak.activations import capture
from makebreak.evaluation import first_tokens, log_odds
from makebreak.lm.comparison import FORWARDS_PER_CUT
from makebreak.mechanism import SafeUnsafeRequests, activation_patching_rows, refusal_rank_rows, stitch
from makebreak.models import n_layers
from makebreak.prompts import token_requests
from tests.activations.networks import N_CTX, network, tokens

REQUESTS = token_requests(
    [*tokens()[:4].tolist(), tokens()[4, : N_CTX - 2].tolist()],
    instructed_answers=[[1]] * 5,
    refusals=[[2]] * 5,
)

BLOCKS = {"gpt2": "transformer.h", "jain2024": "transformer.h", "llama": "model.layers"}


def keep(outputs: list[Tensor], module: nn.Module, inputs: object, output: Tensor) -> None:
    """A forward hook that keeps a module's outputs."""
    outputs.append(output)


def pair(architecture: str) -> tuple[PreTrainedModel, PreTrainedModel]:
    """A model, and another whose weights are near."""
    base, tuned = network(architecture), network(architecture)
    random = torch.Generator().manual_seed(1000)
    with torch.no_grad():
        for weight in tuned.parameters():
            weight.add_(0.05 * torch.randn(weight.shape, generator=random))
    return base, tuned


def n_forwards(models: tuple[PreTrainedModel, ...], n_cuts: int) -> int:
    """Forward passes of both models while a number of cuts is stitched."""
    calls: list[None] = []
    handles = [model.register_forward_pre_hook(lambda *_: calls.append(None)) for model in models]
    stitch(base=models[0], tuned=models[1], requests=REQUESTS, cuts=range(n_cuts), seed=0)
    for handle in handles:
        handle.remove()
    return len(calls)


def test_forward_passes_of_a_cut() -> None:
    counts = [n_forwards(pair("gpt2"), n) for n in (1, 2, 3)]
    assert [b - a for a, b in pairwise(counts)] == [FORWARDS_PER_CUT] * 2


def logits_positions(models: tuple[PreTrainedModel, ...], run: Callable[[], Any]) -> set[int]:
    """Numbers of positions at which the models' logits are computed while something runs."""
    positions: set[int] = set()
    handles = [
        model.get_output_embeddings().register_forward_hook(lambda *args: positions.add(args[-1].shape[1]))
        for model in models
    ]
    run()
    for handle in handles:
        handle.remove()
    return positions


def test_logits_are_computed_at_one_position_only() -> None:
    base, tuned = pair("llama")

    def patch() -> None:
        activation_patching_rows(REQUESTS, base=base, tuned=tuned)

    def rank() -> None:
        refusal_rank_rows(base, SafeUnsafeRequests(REQUESTS, REQUESTS), REQUESTS, max_directions=1, seed=0)

    for run in (patch, rank):
        assert logits_positions((base, tuned), run) == {1}


@pytest.mark.parametrize("architecture", ["gpt2", "jain2024", "llama"])
def test_attribution_equals_gradients_of_all_logits(architecture: str) -> None:
    """An oracle that differentiates with respect to outputs of MLPs, by logits at all positions."""
    base, tuned = pair(architecture)
    prompt, last = torch.from_numpy(REQUESTS.prompt), torch.from_numpy(REQUESTS.prompt_length) - 1
    target = first_tokens(REQUESTS, "refused")

    def margin(logits: Tensor) -> Tensor:
        return log_odds(logits[torch.arange(5), last].double().log_softmax(-1), target).sum()

    with torch.no_grad():
        total = float(margin(tuned(input_ids=prompt).logits) - margin(base(input_ids=prompt).logits))
    rows = {row.part: row for row in activation_patching_rows(REQUESTS, base=base, tuned=tuned)}
    everywhere = torch.ones_like(prompt, dtype=torch.bool)
    for layer in range(n_layers(base)):
        site = f"blocks.{layer}.hook_mlp_out"
        before, after = (
            next(iter(capture(model, prompt, [site], everywhere, batch_size=5))).activations[site]
            for model in (base, tuned)
        )
        module = base.get_submodule(f"{BLOCKS[architecture]}.{layer}.mlp")
        outputs: list[Tensor] = []
        handle = module.register_forward_hook(partial(keep, outputs))
        value = margin(base(input_ids=prompt).logits)
        handle.remove()
        [gradient] = torch.autograd.grad(value, outputs)
        expected = float(((after - before) * gradient.flatten(0, 1)).sum()) / total
        assert rows[f"blocks.{layer}.mlp"].attribution == pytest.approx(expected, rel=1e-3, abs=1e-5)

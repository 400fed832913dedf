"""Speed of attacks on many requests at once, relative to attacking one request at a time."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor
from transformers import PreTrainedModel

from experiments.recipes.composition import PRESETS
from experiments.speed.timing import SpeedRow, median_ratio, seconds
from makebreak.attacks import (
    GCG,
    AdversarialSlots,
    SoftPrompt,
    insert_slots,
    search_tokens,
)
from makebreak.evaluation import WorldTarget
from makebreak.models import create_model
from makebreak.prompts import Requests, World, load_world

ROUNDS, SEED = 3, 1000
N_REQUESTS, N_BASELINE = 64, 8


def attack_rows() -> list[SpeedRow]:
    """Seconds per attacked request, relative to a loop over requests that is kept with the tests."""
    return [
        _soft_prompt("mini", "mini", 1_000, 20),
        _soft_prompt("jain2024", "paper", 32, 2),
        _token_search(),
    ]


def _soft_prompt(name: str, preset: str, n: int, n_baseline: int) -> SpeedRow:
    world, settings = load_world(name), SoftPrompt(n_tokens=10, steps=10)
    model, requests = _model(world, preset), world.sample("unsafe", n, seed=SEED)

    def baseline() -> None:
        from tests.oracles.one_at_a_time import SingleRequest, soft_attack

        weight = model.get_input_embeddings().weight.detach()  # type: ignore[union-attr]
        random = torch.Generator().manual_seed(0)
        start = 0.01 * torch.randn(settings.n_tokens, weight.shape[1], generator=random)
        radius = float(weight.norm(dim=1).mean())
        for i in range(n_baseline):
            prompt, target = _unpadded(requests, i)
            position = int(requests.spans["text"][i, 1])
            request = SingleRequest(prompt, target, position, width=world.sequence_length)
            share = settings.share_position
            soft_attack(model, request, start, radius=radius, steps=settings.steps, share_position=share)

    ratios = []
    for round_ in range(ROUNDS + 1):
        our_seconds = seconds(partial(settings.optimise, WorldTarget(model), requests, seed=round_)) / n
        ratios.append(seconds(baseline) / n_baseline / our_seconds)
    task = f"{n} requests of {name} attacked by soft prompts"
    return SpeedRow(task, "one request at a time", median_ratio(ratios))


def _token_search() -> SpeedRow:
    world, settings = load_world("mini"), GCG(steps=4, candidates=64, topk=8)
    model, k = _model(world, "mini"), 4
    requests = world.sample("unsafe", N_REQUESTS, seed=SEED)
    slots = insert_slots(requests, k, token=world.vocabulary.id("<pad>"))

    def baseline() -> None:
        from tests.oracles.one_at_a_time import SearchBudget, SingleRequest, gcg_attack

        for i in range(N_BASELINE):
            prompt, target = _unpadded(slots.requests, i)
            position = int(slots.positions[i, 0])
            rest, ids = (
                torch.cat([prompt[:position], prompt[position + k :]]),
                prompt[position : position + k],
            )
            topk = settings.n_proposals(len(world.vocabulary))
            budget = SearchBudget(settings.steps, settings.candidates, topk)
            gcg_attack(model, SingleRequest(rest, target, position), ids, budget, seed=i)

    ratios = []
    for round_ in range(ROUNDS + 1):
        our_seconds = seconds(partial(_search, model, slots, settings, round_)) / N_REQUESTS
        ratios.append(seconds(baseline) / N_BASELINE / our_seconds)
    task = f"candidates of GCG on {N_REQUESTS} requests"
    return SpeedRow(task, "one request at a time", median_ratio(ratios))


def _search(model: PreTrainedModel, slots: AdversarialSlots, settings: GCG, seed: int) -> None:
    result = search_tokens(model, slots, settings, seed=seed)
    assert (result.steps == settings.steps).all()  # as many candidates as the baseline


def _model(world: World, preset: str) -> PreTrainedModel:
    n_ctx = world.sequence_length + 10
    return create_model(PRESETS[preset].model, d_vocab=len(world.vocabulary), n_ctx=n_ctx, seed=SEED).eval()


def _unpadded(requests: Requests, i: int) -> tuple[Tensor, Tensor]:
    """Prompt and target of one request whose first output is judged, without padding."""
    prompt = requests.prompt[i, : requests.prompt_length[i]]
    answer = requests.instructed[i, : requests.judged[i, 1]]
    return torch.from_numpy(prompt), torch.from_numpy(answer)

"""How fast are attacks on many requests, beside attacking one at a time?"""

from __future__ import annotations

import statistics
from functools import partial

import torch
from torch import Tensor
from transformers import PreTrainedModel

from experiments.jain2024.presets import PRESETS
from experiments.speed.clock import seconds
from makebreak.attacks import (
    AdversarialSlots,
    SoftPromptSettings,
    TokenSearchSettings,
    insert_slots,
    optimise_soft_prompt,
    search_tokens,
)
from makebreak.models import create_model
from makebreak.requests import Requests, World, load_world

ROUNDS, SEED = 3, 1000
N_TYPED, N_NAIVE = 64, 8


def attacking() -> list[dict[str, object]]:
    """Seconds for each attacked request beside a loop over requests, kept in tests/, that is timed on some of them."""
    return [
        _soft("mini", "mini", 1_000, 20),
        _soft("jain2024", "paper", 32, 2),
        _typed(),
    ]


def _soft(name: str, preset: str, n: int, n_naive: int) -> dict[str, object]:
    world, settings = load_world(name), SoftPromptSettings(n_tokens=10, steps=10)
    model, asked = _model(world, preset), world.sample("unsafe", n, seed=SEED)

    def naive() -> None:
        from tests.oracles.one_at_a_time import SingleRequest, soft_attack

        weight = model.get_input_embeddings().weight.detach()  # type: ignore[union-attr]
        start = 0.01 * torch.randn(
            settings.n_tokens, weight.shape[1], generator=torch.Generator().manual_seed(0)
        )
        radius = float(weight.norm(dim=1).mean())
        for i in range(n_naive):
            prompt, target = _bare(asked, i)
            at = int(asked.spans["text"][i, 1])
            request = SingleRequest(prompt, target, at, width=world.sequence_length)
            share_position = settings.share_position
            soft_attack(
                model, request, start, radius=radius, steps=settings.steps, share_position=share_position
            )

    ratios = []
    for round_ in range(ROUNDS + 1):  # the first warms up
        ours = seconds(partial(optimise_soft_prompt, model, asked, settings, seed=round_)) / n
        ratios.append(seconds(naive) / n_naive / ours)
    what = f"{n} requests of {name} attacked by soft tokens"
    return {"what": what, "beside": "one at a time", "times": statistics.median(ratios[1:])}


def _typed() -> dict[str, object]:
    world, settings = load_world("mini"), TokenSearchSettings(steps=4, candidates=64, topk=8)
    model, k = _model(world, "mini"), 4
    placed = insert_slots(world.sample("unsafe", N_TYPED, seed=SEED), k, token=world.vocabulary.id("<pad>"))

    def naive() -> None:
        from tests.oracles.one_at_a_time import SearchBudget, SingleRequest, gcg_attack

        for i in range(N_NAIVE):
            prompt, target = _bare(placed.requests, i)
            at = int(placed.positions[i, 0])
            rest, ids = torch.cat([prompt[:at], prompt[at + k :]]), prompt[at : at + k]
            topk = settings.n_proposals(len(world.vocabulary))
            budget = SearchBudget(settings.steps, settings.candidates, topk)
            gcg_attack(model, SingleRequest(rest, target, at), ids, budget, seed=i)

    ratios = []
    for round_ in range(ROUNDS + 1):
        ours = seconds(partial(_attack, model, placed, settings, round_)) / N_TYPED
        ratios.append(seconds(naive) / N_NAIVE / ours)
    what = f"candidates of a gradient attack on {N_TYPED} requests"
    return {"what": what, "beside": "one request at a time", "times": statistics.median(ratios[1:])}


def _attack(
    model: PreTrainedModel, placed: AdversarialSlots, settings: TokenSearchSettings, seed: int
) -> None:
    found = search_tokens(model, placed, settings, seed=seed)
    assert (found.steps == settings.steps).all()  # as many candidates as the loop


def _model(world: World, preset: str) -> PreTrainedModel:
    n_ctx = world.sequence_length + 10
    return create_model(PRESETS[preset].model, d_vocab=len(world.vocabulary), n_ctx=n_ctx, seed=SEED).eval()


def _bare(requests: Requests, i: int) -> tuple[Tensor, Tensor]:
    """Prompt and target of a request that is judged on its first output, without padding."""
    prompt, answer = (
        requests.prompt[i, : requests.prompt_length[i]],
        requests.instructed[i, : requests.judged[i, 1]],
    )
    return torch.from_numpy(prompt), torch.from_numpy(answer)

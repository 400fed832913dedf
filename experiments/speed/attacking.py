"""How fast are attacks on many requests, beside attacking one at a time?"""

from __future__ import annotations

import statistics
from functools import partial

import numpy as np
import torch
from transformers import PreTrainedModel

from experiments.jain2024.presets import PRESETS
from experiments.speed.clock import seconds
from makebreak.attacks import Placed, SoftTokens, TokenAttack, attack_tokens, place, soften
from makebreak.models import create
from makebreak.requests import Requests, load_world

ROUNDS, SEED = 3, 1000
N_SOFT, N_TOKENS, N_NAIVE = 1_000, 64, 20


def attacking() -> list[dict[str, object]]:
    """Seconds for each attacked request, or candidate, beside a loop over requests (the oracle kept in tests/)."""
    world, preset = load_world("mini"), PRESETS["mini"]
    settings = SoftTokens(n_tokens=10, steps=10)
    search = TokenAttack(steps=4, candidates=64, top=16)
    n_ctx = world.sequence_length + settings.n_tokens
    model = create(preset.model, d_vocab=len(world.vocabulary), n_ctx=n_ctx, seed=SEED).eval()
    asked = world.sample("unsafe", N_SOFT, seed=SEED)
    placed = place(asked[:N_TOKENS], 4, token=world.vocabulary.id("<pad>"))
    soft, typed = [], []
    for round_ in range(ROUNDS + 1):  # the first warms up
        ours = seconds(partial(soften, model, asked, settings, seed=round_)) / N_SOFT
        soft.append(seconds(partial(_naive_soft, model, asked[:N_NAIVE], settings)) / N_NAIVE / ours)
        ours = seconds(partial(attack_tokens, model, placed, search, seed=round_)) / N_TOKENS
        typed.append(seconds(partial(_naive_tokens, model, placed, search)) / N_NAIVE / ours)
    rows = [(f"{N_SOFT} requests attacked by soft tokens", soft), ("candidates of a gradient attack", typed)]
    return [
        {"what": what, "beside": "one request at a time", "times": statistics.median(ratios[1:])}
        for what, ratios in rows
    ]


def _naive_soft(model: PreTrainedModel, requests: Requests, settings: SoftTokens) -> None:
    from tests.oracles.one_at_a_time import soft_attack

    weight = model.get_input_embeddings().weight.detach()  # type: ignore[union-attr]
    radius = float(weight[torch.from_numpy(requests.prompt)].norm(dim=-1).mean())
    start = 0.01 * torch.randn(settings.n_tokens, weight.shape[1], generator=torch.Generator().manual_seed(0))
    for i, at in enumerate(requests.spans["text"][:, 1]):
        prompt, target = one(requests, i)
        soft_attack(
            model, prompt, target, at=int(at), start=start, radius=radius, steps=settings.steps, held=settings.held
        )


def _naive_tokens(model: PreTrainedModel, placed: Placed, settings: TokenAttack) -> None:
    from tests.oracles.one_at_a_time import gcg_attack

    k = placed.at.shape[1]
    for i, at in enumerate(placed.at[:N_NAIVE, 0]):
        prompt, target = one(placed.requests, i)
        budget = {"steps": settings.steps, "candidates": settings.candidates, "top": settings.top}
        rest = torch.cat([prompt[:at], prompt[at + k :]])
        gcg_attack(model, rest, target, at=int(at), ids=prompt[at : at + k], seed=i, **budget)


def one(requests: Requests, i: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Prompt and target of a request judged on its first output, without padding."""
    prompt, answer = requests.prompt[i, : requests.prompt_length[i]], requests.instructed[i]
    return torch.from_numpy(prompt), torch.from_numpy(answer[: int(np.max(requests.judged[i]))])

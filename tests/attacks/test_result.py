"""Outcomes of attacks and the prefill that a refusal withstands."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from makebreak.attacks import (
    GCG,
    Attack,
    RandomSearch,
    RandomSoftPrompt,
    RandomTokens,
    SoftPrompt,
    Universal,
    min_prefill_length,
    score_attack,
)
from makebreak.evaluation import TokenConstraint, WorldTarget, exact_match
from makebreak.prompts import target_sequences
from tests.attacks.random_requests import FILLER, random_network, random_requests

D_VOCAB = 8
MODEL = random_network("llama", d_vocab=D_VOCAB)
TARGET = WorldTarget(MODEL)
REQUESTS = random_requests([3, 5, 4, 4, 6] * 8, d_vocab=D_VOCAB, n_target=4)


def test_min_prefill_equals_forcing_one_by_one() -> None:
    """The answers are the model's own, with tokens changed: behind the last of these it goes on by itself."""
    rng, requests = np.random.default_rng(0), REQUESTS
    for column in range(4):  # greedy answers
        with torch.no_grad():
            batch = target_sequences(requests, "instructed")
            logits = MODEL(input_ids=batch.tokens[:, :-1]).logits
        best = logits[torch.arange(len(requests)), batch.decision + column].argmax(-1).numpy()
        changed = rng.random(len(requests)) < 0.3
        requests.instructed[:, column] = np.where(changed, (best + 1) % D_VOCAB, best)
    depth = min_prefill_length(MODEL, requests)
    assert set(depth) == {0, 1, 2, 3, 4}
    for i in range(len(requests)):
        one, prompt = requests[i : i + 1], requests.prompt[i, : requests.prompt_length[i]]
        for k in range(5):
            ids = torch.from_numpy(np.concatenate([prompt, one.instructed[0, :k]]))[None]
            for _ in range(4 - k):
                with torch.no_grad():
                    ids = torch.cat([ids, MODEL(input_ids=ids).logits[:, -1].argmax(-1)[:, None]], dim=1)
            assert (ids[0, len(prompt) :].numpy() == one.instructed[0]).all() == (k >= depth[i])


@pytest.mark.parametrize("optimise", [True, False])
def test_soft_prompts_are_scored_with_vectors(optimise: bool) -> None:
    result = (SoftPrompt if optimise else RandomSoftPrompt)(3, 10)(TARGET, REQUESTS, seed=0)
    assert result.soft_prompt is not None
    norms = result.soft_prompt.vectors.norm(dim=1)
    assert (norms <= result.soft_prompt.radius + 1e-5).all()
    if not optimise:
        torch.testing.assert_close(norms, torch.full_like(norms, result.soft_prompt.radius))
    part = result[np.array([1, 5, 7])]
    with part.attach(MODEL):
        again = exact_match(MODEL, part.requests, "instructed").numpy()
    assert again.tolist() == result.complies[[1, 5, 7]].tolist()


def test_optimised_attacks_beat_random_ones() -> None:
    """And every attack has its name."""
    allowed = np.isin(np.arange(D_VOCAB), [3, 4])
    attacks: list[tuple[Attack, WorldTarget]] = [
        (SoftPrompt(3, 20), TARGET),
        (RandomSoftPrompt(3, 20), TARGET),
        (GCG(2, 4, 16, token=FILLER, topk=2), TARGET),
        (RandomSearch(2, 4, 16, token=FILLER), WorldTarget(MODEL, TokenConstraint(allowed))),
        (Universal(RandomTokens(2, 4, 16, token=FILLER)), TARGET),
    ]
    results = [attack(target, REQUESTS, seed=0) for attack, target in attacks]
    positions = results[3].positions
    assert positions is not None
    found = np.take_along_axis(results[3].requests.prompt, positions, axis=1)
    assert set(found.ravel()) <= {3, 4, FILLER}
    assert [result.name for result in results] == [
        "soft 3",
        "random soft 3",
        "gcg 2",
        "random search 2",
        "random tokens 2 universal",
    ]
    assert results[0].soft_prompt is not None
    assert results[1].soft_prompt is not None
    assert results[0].complies.sum() > results[1].complies.sum()
    plain = score_attack("plain", TARGET, REQUESTS)
    assert not (plain.refuses & plain.complies).any()


@pytest.mark.parametrize(
    "attack",
    [
        Universal(SoftPrompt(2, 5)),
        Universal(RandomSoftPrompt(2, 5)),
        Universal(GCG(2, 4, 16, token=FILLER, topk=2)),
    ],
)
def test_universal_attacks_are_scored_held_out(attack: Attack) -> None:
    """On requests that they were not optimised on."""
    result = attack(TARGET, REQUESTS, seed=0)
    assert (result.requests.instructed == REQUESTS.instructed[1::2]).all()
    changed = replace(REQUESTS, instructed=REQUESTS.instructed.copy())
    # the requests that it is scored on do not influence it
    changed.instructed[1::2] = (changed.instructed[1::2] + 1) % D_VOCAB
    again = attack(TARGET, changed, seed=0)
    assert (again.requests.prompt == result.requests.prompt).all()
    if result.soft_prompt is not None and again.soft_prompt is not None:
        assert torch.equal(result.soft_prompt.vectors, again.soft_prompt.vectors)
        assert len(result.soft_prompt.vectors.unique(dim=0)) == 2
    else:
        positions = result.requests.prompt_length[:, None] - 1 - np.arange(3)  # the end, and the attack
        tokens = np.take_along_axis(result.requests.prompt, positions[:, 1:], axis=1)
        assert len(np.unique(tokens, axis=0)) == 1
    with pytest.raises(ValueError, match="universal attack on 1 requests: expected at least 2"):
        attack(TARGET, REQUESTS[:1], seed=0)

"""Is what came of an attack told exactly, and how deep does a refusal go?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from makebreak.attacks import Attack, BySoftTokens, ByTokens, SoftTokens, TokenAttack, refusal_depth, tried
from makebreak.behaviour import gives
from makebreak.requests import target_sequences
from tests.attacks.asked import FILLER, answering, asked

D_VOCAB = 8
MODEL = answering("llama", d_vocab=D_VOCAB)
REQUESTS = asked([3, 5, 4, 4, 6] * 8, d_vocab=D_VOCAB, n_target=4)


def test_depth_is_that_of_forcing_one_token_after_the_other() -> None:
    """The answers are the model's own, with tokens changed: behind the last of these it goes on by itself."""
    rng, requests = np.random.default_rng(0), REQUESTS
    for column in range(4):  # greedy answers
        with torch.no_grad():
            batch = target_sequences(requests, "instructed")
            logits = MODEL(input_ids=batch.tokens[:, :-1]).logits
        best = logits[torch.arange(len(requests)), batch.decision + column].argmax(-1).numpy()
        changed = rng.random(len(requests)) < 0.3
        requests.instructed[:, column] = np.where(changed, (best + 1) % D_VOCAB, best)
    depth = refusal_depth(MODEL, requests)
    assert set(depth) == {0, 1, 2, 3, 4}
    for i in range(len(requests)):
        one, prompt = requests[i : i + 1], requests.prompt[i, : requests.prompt_length[i]]
        for k in range(5):
            ids = torch.from_numpy(np.concatenate([prompt, one.instructed[0, :k]]))[None]
            for _ in range(4 - k):
                with torch.no_grad():
                    ids = torch.cat([ids, MODEL(input_ids=ids).logits[:, -1].argmax(-1)[:, None]], dim=1)
            assert (ids[0, len(prompt) :].numpy() == one.instructed[0]).all() == (k >= depth[i])


@pytest.mark.parametrize("optimised", [True, False])
def test_soft_tokens_are_judged_with_their_vectors(optimised: bool) -> None:
    found = BySoftTokens(SoftTokens(3, 10), optimised=optimised)(MODEL, REQUESTS, seed=0)
    assert found.softened is not None
    norms = found.softened.vectors.norm(dim=1)
    assert (norms <= found.softened.radius + 1e-5).all()
    if not optimised:
        torch.testing.assert_close(norms, torch.full_like(norms, found.softened.radius))
    part = found[np.array([1, 5, 7])]
    with part.inside(MODEL):
        again = gives(MODEL, part.requests, "instructed").numpy()
    assert again.tolist() == found.complied[[1, 5, 7]].tolist()


def test_optimised_ones_do_better_than_random_ones_and_all_say_what_they_are() -> None:
    attacks = [
        BySoftTokens(SoftTokens(3, 20)),
        BySoftTokens(SoftTokens(3, 20), optimised=False),
        ByTokens(TokenAttack("gradient", 4, 16, 2), 2, FILLER),
        ByTokens(TokenAttack("search", 4, 16), 2, FILLER, allowed=(3, 4)),
        ByTokens(TokenAttack("random", 4, 16, universal=True), 2, FILLER),
    ]
    found = [attack(MODEL, REQUESTS, seed=0) for attack in attacks]
    assert [f.name for f in found] == [
        "soft 3",
        "random soft 3",
        "gcg 2",
        "random search 2",
        "random tokens 2 universal",
    ]
    assert found[0].softened is not None
    assert found[1].softened is not None
    assert found[0].complied.sum() > found[1].complied.sum()
    plain = tried("plain", MODEL, REQUESTS)
    assert not (plain.refused & plain.complied).any()


@pytest.mark.parametrize(
    "attack",
    [
        BySoftTokens(SoftTokens(2, 5, universal=True)),
        BySoftTokens(SoftTokens(2, 5, universal=True), optimised=False),
        ByTokens(TokenAttack("gradient", 4, 16, 2, universal=True), 2, FILLER),
    ],
)
def test_a_universal_attack_is_tried_on_requests_that_it_was_not_found_on(attack: Attack) -> None:
    found = attack(MODEL, REQUESTS, seed=0)
    assert (found.requests.instructed == REQUESTS.instructed[1::2]).all()
    changed = replace(REQUESTS, instructed=REQUESTS.instructed.copy())
    changed.instructed[1::2] = (
        changed.instructed[1::2] + 1
    ) % D_VOCAB  # what it is tried on has no say in it
    again = attack(MODEL, changed, seed=0)
    assert (again.requests.prompt == found.requests.prompt).all()
    if found.softened is not None and again.softened is not None:
        assert torch.equal(found.softened.vectors, again.softened.vectors)
        assert len(found.softened.vectors.unique(dim=0)) == 2
    else:
        at = found.requests.prompt_length[:, None] - 1 - np.arange(3)  # the attack, and the end behind it
        assert len(np.unique(np.take_along_axis(found.requests.prompt, at[:, 1:], axis=1), axis=0)) == 1
    with pytest.raises(ValueError, match="universal attack on 1 requests: expected at least 2"):
        attack(MODEL, REQUESTS[:1], seed=0)

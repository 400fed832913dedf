"""Token searches: what they find, the gradient behind proposals, and exact shortcuts."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers import PreTrainedModel

from makebreak.activations import forward_from_embeddings, prefix_cache
from makebreak.attacks import (
    GCG,
    AdversarialSlots,
    CandidateSearch,
    RandomSearch,
    RandomTokens,
    SearchOptions,
    TokenSearch,
    insert_slots,
    search_tokens,
)
from makebreak.evaluation import TokenConstraint, score_targets
from makebreak.prompts import Requests, target_sequences
from tests.activations.networks import ARCHITECTURES, D_VOCAB, network
from tests.attacks.random_requests import FILLER, random_network, random_requests

SHORT = GCG(steps=6, candidates=8, topk=5)
RANDOM = RandomSearch(steps=6, candidates=8)
METHODS: list[type[TokenSearch]] = [GCG, RandomSearch, RandomTokens]


def _slots(lengths: list[int], k: int = 2, *, d_vocab: int = D_VOCAB, **options: int) -> AdversarialSlots:
    return insert_slots(random_requests(lengths, d_vocab=d_vocab, **options), k, token=FILLER)


def _filled(slots: AdversarialSlots, ids: np.ndarray) -> Requests:
    """The first request with each row of ids in it."""
    rows = np.zeros(len(ids), dtype=np.int64)
    prompt = slots.requests.prompt[rows]
    np.put_along_axis(prompt, slots.positions[rows], ids, axis=1)
    return replace(slots.requests[rows], prompt=prompt)


def _loss(model: PreTrainedModel, requests: Requests) -> torch.Tensor:
    with torch.no_grad():
        return score_targets(model, target_sequences(requests, "instructed")).nll


def _tokens(requests: Requests, positions: np.ndarray) -> np.ndarray:
    return np.take_along_axis(requests.prompt, positions, axis=1)


def test_gradient_finds_the_best_suffix() -> None:
    """All suffixes of two tokens out of 32, by ten networks; each attack tries 240 of the 1,024."""
    every = np.array(list(product(range(32), repeat=2)))
    settings = {
        name: method(steps=30, candidates=8) for name, method in (("gradient", GCG), ("random", RandomTokens))
    }
    excess: dict[str, list[float]] = {method: [] for method in settings}
    for seed in range(10):
        model = random_network("gpt2", d_vocab=32, seed=seed)
        slots = _slots([5], 2, d_vocab=32, n_target=4, seed=seed)
        least = float(_loss(model, _filled(slots, every)).min())
        for method, chosen in settings.items():
            result = search_tokens(model, slots, chosen, seed=seed)
            assert float(result.loss) == pytest.approx(float(_loss(model, result.requests)), abs=1e-6)
            excess[method].append(float(result.loss) - least)
    assert min(min(values) for values in excess.values()) >= -1e-5
    assert sum(value < 1e-5 for value in excess["gradient"]) >= 9
    assert sum(value < 1e-5 for value in excess["random"]) <= 6
    assert np.mean(excess["random"]) > np.mean(excess["gradient"])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_proposals_follow_the_one_hot_gradient(architecture: str) -> None:
    """Also if the model scales its embeddings."""
    model, slots = network(architecture), _slots([2, 4])
    embedding: Any = model.get_input_embeddings()
    search = CandidateSearch(model, slots, torch.arange(D_VOCAB))
    proposals = SHORT.proposals(search, search.start({}).current, torch.arange(2))
    batch = target_sequences(slots.requests, "instructed")
    # embeddings given to a model of Hugging Face are those that it would have looked up and scaled itself
    embedded = embedding(batch.tokens[:, :-1]).detach().requires_grad_()
    logits = forward_from_embeddings(model, embedded).logits
    mask = batch.supervised[:, 1:]
    nll = nn.functional.cross_entropy(logits[mask], batch.tokens[:, 1:][mask], reduction="none")
    (nll.sum() / 2).backward()
    assert embedded.grad is not None
    descent = -(embedded.grad @ embedding(torch.arange(D_VOCAB)).T)
    for row in range(2):
        expected = descent[row, slots.positions[row]].topk(5).indices
        assert proposals[row].sort().values.tolist() == expected.sort().values.tolist()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_prefix_cache_keeps_the_losses(architecture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tokens before all slots are processed once per request; several forward passes cut requests
    apart."""
    model, slots = network(architecture), _slots([5, 3, 4])
    candidates = torch.randint(D_VOCAB, (3, 7, 2), generator=torch.Generator().manual_seed(0))
    search = CandidateSearch(model, slots, torch.arange(D_VOCAB))
    monkeypatch.setattr("makebreak.evaluation.teacher_forcing._MAX_TOKENS", 60)
    monkeypatch.setattr(prefix_cache, "MIN_PREFIX_TOKENS", 10**9)
    uncached, uncached_matches, *_ = search.score(torch.arange(3), candidates)
    monkeypatch.setattr(prefix_cache, "MIN_PREFIX_TOKENS", 1)
    cached, cached_matches, *_ = search.score(torch.arange(3), candidates)
    assert torch.allclose(uncached, cached, atol=1e-4)
    assert (uncached_matches == cached_matches).all()
    for i in range(3):
        single = AdversarialSlots(slots.requests[np.array([i])], slots.positions[[i]])
        assert torch.allclose(_loss(model, _filled(single, candidates[i].numpy())), uncached[i], atol=1e-4)


@pytest.mark.parametrize(
    ("topk", "n_allowed", "n_proposals"),
    [
        (None, 33, 8),
        (None, 128, 32),
        (None, 50_000, 32),
        (None, 3, 1),
        (16, 33, 8),
        (8, 33, 8),
        (1, 1, 1),
        (40, 200, 40),
    ],
)
def test_at_most_a_quarter_is_proposed(topk: int | None, n_allowed: int, n_proposals: int) -> None:
    """GCG of nearly all tokens is a random search; the default is 32, or a quarter of few allowed tokens."""
    assert GCG(topk=topk).n_proposals(n_allowed) == n_proposals


def test_half_of_the_tokens_is_an_error() -> None:
    """Only if `topk` is given explicitly and candidates come from the gradient; the default adapts."""
    model, slots = random_network("gpt2", d_vocab=D_VOCAB), _slots([5, 3])
    with pytest.raises(ValueError, match=r"topk = 10 of 20 allowed tokens .* expected at most 5"):
        search_tokens(model, slots, replace(SHORT, topk=10), seed=0)
    for settings in (
        replace(SHORT, topk=None),
        replace(SHORT, topk=9),
        RANDOM,
    ):
        search_tokens(model, slots, replace(settings, steps=1), seed=0)


def test_default_topk_keeps_the_identity(tmp_path: Path) -> None:
    """A state of a search on 128 tokens or more is that of `topk=32`, and a random search ignores `topk`."""
    options, d_vocab = SearchOptions(checkpoint_path=tmp_path / "attack.json"), 130
    model, slots = random_network("gpt2", d_vocab=d_vocab), _slots([5, 3], d_vocab=d_vocab)
    for method in METHODS:
        given: TokenSearch = (
            GCG(steps=1, candidates=8, topk=32) if method is GCG else method(steps=1, candidates=8)
        )
        search_tokens(model, slots, given, seed=0, options=options)
        search_tokens(model, slots, method(steps=2, candidates=8), seed=0, options=options)
        (tmp_path / "attack.json").unlink()


@pytest.mark.parametrize("method", METHODS)
def test_more_steps_are_never_worse(method: type[TokenSearch]) -> None:
    """And the losses returned are those of the tokens."""
    model, slots = random_network("llama", d_vocab=D_VOCAB), _slots([9, 10, 11], 3)
    before = np.full(3, np.inf)
    for steps in (1, 3, 6):
        result = search_tokens(model, slots, method(steps=steps, candidates=8), seed=0)
        assert torch.allclose(result.loss, _loss(model, result.requests), atol=1e-5)
        assert (result.loss.numpy() <= before + 1e-5).all()
        assert result.history == sorted(result.history, reverse=True)
        assert result.history[-1] == pytest.approx(float(result.loss.mean()), abs=1e-4)
        before = result.loss.numpy()


@pytest.mark.parametrize("method", METHODS)
def test_only_allowed_tokens_are_chosen(method: type[TokenSearch]) -> None:
    """And no position outside the slots changes."""
    model, slots = random_network("gpt2", d_vocab=D_VOCAB), _slots([5, 3])
    allowed = np.zeros(D_VOCAB, dtype=bool)
    allowed[[7, 11, 13]] = True
    attack = method(steps=6, candidates=8)
    options = SearchOptions(TokenConstraint(allowed))
    result = search_tokens(model, slots, attack, seed=0, options=options)
    assert set(_tokens(result.requests, result.positions).ravel()) <= {7, 11, 13, FILLER}
    elsewhere = np.ones_like(slots.requests.prompt, dtype=bool)
    np.put_along_axis(elsewhere, slots.positions, False, axis=1)
    assert (result.requests.prompt == slots.requests.prompt)[elsewhere].all()
    nothing = SearchOptions(TokenConstraint(np.zeros(D_VOCAB, dtype=bool)))
    with pytest.raises(ValueError, match="no token is allowed: expected at least one"):
        search_tokens(model, slots, attack, seed=0, options=nothing)


@pytest.mark.parametrize("universal", [False, True])
def test_filtered_candidates_are_never_returned(universal: bool) -> None:
    model, slots = random_network("gpt2", d_vocab=D_VOCAB), _slots([4, 4])
    attack, plain = replace(SHORT, steps=10), SearchOptions(shared=universal)
    unrestricted = search_tokens(model, slots, attack, seed=0, options=plain).requests
    excluded = set(_tokens(unrestricted, slots.positions).ravel()) - {FILLER}

    def keep(requests: Requests) -> np.ndarray:
        return np.array([not set(row) & excluded for row in requests.prompt[:, 5:7]])

    options = replace(plain, constraint=TokenConstraint(is_valid=keep))
    result = search_tokens(model, slots, attack, seed=0, options=options)
    assert result.valid_share is not None
    assert 0 < result.valid_share < 1
    tokens = set(_tokens(result.requests, result.positions).ravel())
    assert excluded
    assert tokens - {FILLER}
    assert not tokens & excluded
    none_valid = TokenConstraint(is_valid=lambda requests: np.zeros(len(requests), dtype=bool))
    options = replace(plain, constraint=none_valid)
    nothing = search_tokens(model, slots, attack, seed=0, options=options)
    assert nothing.valid_share == 0
    assert (nothing.requests.prompt == slots.requests.prompt).all()


@pytest.mark.parametrize("method", METHODS)
def test_a_universal_attack_is_the_same_for_all(method: type[TokenSearch]) -> None:
    model, slots = random_network("gpt2", d_vocab=D_VOCAB), _slots([5, 3, 4])
    attack = method(steps=6, candidates=16)
    result = search_tokens(model, slots, attack, seed=0, options=SearchOptions(shared=True))
    tokens = _tokens(result.requests, result.positions)
    assert (tokens == tokens[0]).all()
    assert (tokens != FILLER).any()
    assert float(result.loss.mean()) < float(_loss(model, slots.requests).mean())


@pytest.mark.parametrize(("settings", "shared"), [(SHORT, False), (RANDOM, False), (SHORT, True)])
def test_resumed_equals_uninterrupted(settings: TokenSearch, shared: bool, tmp_path: Path) -> None:
    model, slots, path = random_network("gpt2", d_vocab=D_VOCAB), _slots([5, 3]), tmp_path / "attack.json"
    whole = search_tokens(model, slots, settings, seed=3, options=SearchOptions(shared=shared))
    means: list[float] = []

    def stop(mean: float) -> None:
        means.append(mean)
        if len(means) == 3:
            raise KeyboardInterrupt

    options = SearchOptions(shared=shared, checkpoint_path=path, progress=stop)
    with pytest.raises(KeyboardInterrupt):
        search_tokens(model, slots, settings, seed=3, options=options)
    options = SearchOptions(shared=shared, checkpoint_path=path, progress=means.append)
    resumed = search_tokens(model, slots, settings, seed=3, options=options)
    assert len(means) == settings.steps
    assert resumed.history == whole.history == means
    assert (resumed.requests.prompt == whole.requests.prompt).all()
    assert (resumed.loss == whole.loss).all()
    assert resumed.steps.tolist() == whole.steps.tolist()
    options = SearchOptions(shared=shared, checkpoint_path=path)
    assert search_tokens(model, slots, settings, seed=3, options=options).history == whole.history


def test_another_search_s_file_is_an_error(tmp_path: Path) -> None:
    model, slots, path = random_network("gpt2", d_vocab=D_VOCAB), _slots([5, 3]), tmp_path / "attack.json"
    options = SearchOptions(checkpoint_path=path)
    search_tokens(model, slots, SHORT, seed=0, options=options)
    search_tokens(model, slots, replace(SHORT, steps=7), seed=0, options=options)  # the same, for longer
    allowed = np.arange(D_VOCAB) != 4
    attacks: list[tuple[AdversarialSlots, TokenSearch, int, Any]] = [
        (slots, SHORT, 1, None),
        (slots, replace(SHORT, candidates=9), 0, None),
        (slots, SHORT, 0, allowed),
        (_slots([5, 3], seed=1), SHORT, 0, None),
    ]
    for other, settings, seed, chosen in attacks:
        options = SearchOptions(TokenConstraint(chosen), checkpoint_path=path)
        with pytest.raises(ValueError, match=r"attack\.json is of another attack") as error:
            search_tokens(model, other, settings, seed=seed, options=options)
        assert "\n" not in str(error.value)


def _with_own_answers(model: PreTrainedModel, requests: Requests) -> Requests:
    """The requests with the model's own greedy answers as their targets."""
    answers = np.zeros_like(requests.instructed)
    for column in range(answers.shape[1]):
        for i, length in enumerate(requests.prompt_length):
            ids = [*requests.prompt[i, :length], *answers[i, :column]]
            with torch.no_grad():
                answers[i, column] = int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax())
    return replace(requests, instructed=answers)


def test_reached_targets_are_not_attacked() -> None:
    """An error if the model gives all targets already; a single request that it gives stays as it is."""
    model, slots = random_network("gpt2", d_vocab=D_VOCAB), _slots([5, 3])
    reached = AdversarialSlots(_with_own_answers(model, slots.requests), slots.positions)
    with pytest.raises(ValueError, match="gives all 2 targets already: there is nothing to attack"):
        search_tokens(model, reached, SHORT, seed=0)
    mixed = slots.requests.instructed.copy()
    mixed[0] = reached.requests.instructed[0]
    half_reached = AdversarialSlots(replace(slots.requests, instructed=mixed), slots.positions)
    result = search_tokens(model, half_reached, SHORT, seed=0)
    assert (result.requests.prompt[0] == slots.requests.prompt[0]).all()
    assert bool(result.exact_match[0])
    assert (result.requests.prompt[1] != slots.requests.prompt[1]).any()
    assert result.steps[0] == 0


def test_without_gradients_only_random_search() -> None:
    with torch.inference_mode():
        model = random_network("gpt2", d_vocab=D_VOCAB)
    slots = _slots([5, 3])
    with pytest.raises(ValueError, match="GPT2LMHeadModel gives no gradients"):
        search_tokens(model, slots, SHORT, seed=0)
    with torch.no_grad(), pytest.raises(ValueError, match=r"torch\.no_grad is on"):
        search_tokens(random_network("gpt2", d_vocab=D_VOCAB), slots, SHORT, seed=0)
    result = search_tokens(model, slots, RANDOM, seed=0)
    assert (result.loss < _loss(model, slots.requests)).all()


def test_a_short_request_padded_to_a_long_one() -> None:
    model, slots = random_network("gpt2", d_vocab=D_VOCAB), _slots([20, 3])
    single = AdversarialSlots(slots.requests[np.array([1])], slots.positions[[1]])
    assert search_tokens(model, single, SHORT, seed=0).loss.shape == (1,)

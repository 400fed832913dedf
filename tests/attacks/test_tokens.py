"""Do attacks by tokens find what trying everything finds, by the gradient they say, and is every shortcut exact?"""

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

from makebreak.activations import run_embedded
from makebreak.attacks import Placed, TokenAttack, attack_tokens, place, tokens
from makebreak.behaviour import aim
from makebreak.requests import Requests, target_sequences
from tests.activations.networks import ARCHITECTURES, D_VOCAB, network
from tests.attacks.asked import FILLER, answering, asked

SHORT = TokenAttack(steps=6, candidates=8, top=5)
HOWS = ["gradient", "search", "random"]


def _placed(lengths: list[int], k: int = 2, *, d_vocab: int = D_VOCAB, **kind: int) -> Placed:
    return place(asked(lengths, d_vocab=d_vocab, **kind), k, token=FILLER)


def _filled(placed: Placed, ids: np.ndarray) -> Requests:
    """The first request with each row of ids in it."""
    rows = np.zeros(len(ids), dtype=np.int64)
    prompt = placed.requests.prompt[rows]
    np.put_along_axis(prompt, placed.at[rows], ids, axis=1)
    return replace(placed.requests[rows], prompt=prompt)


def _loss(model: PreTrainedModel, requests: Requests) -> torch.Tensor:
    with torch.no_grad():
        return aim(model, target_sequences(requests, "instructed")).nll


def _typed(requests: Requests, at: np.ndarray) -> np.ndarray:
    return np.take_along_axis(requests.prompt, at, axis=1)


def test_the_gradient_finds_what_trying_everything_finds() -> None:
    """All suffixes of two tokens out of 32, by ten networks; each attack tries 240 of the 1,024."""
    every = np.array(list(product(range(32), repeat=2)))
    settings = {how: TokenAttack(how, steps=30, candidates=8) for how in ("gradient", "random")}  # type: ignore[arg-type]
    above: dict[str, list[float]] = {how: [] for how in settings}
    for seed in range(10):
        model, placed = (
            answering("gpt2", d_vocab=32, seed=seed),
            _placed([5], 2, d_vocab=32, n_target=4, seed=seed),
        )
        least = float(_loss(model, _filled(placed, every)).min())
        for how, chosen in settings.items():
            found = attack_tokens(model, placed, chosen, seed=seed)
            assert float(found.loss) == pytest.approx(float(_loss(model, found.requests)), abs=1e-6)
            above[how].append(float(found.loss) - least)
    assert min(min(values) for values in above.values()) >= -1e-5
    assert sum(value < 1e-5 for value in above["gradient"]) >= 9
    assert sum(value < 1e-5 for value in above["random"]) <= 6
    assert np.mean(above["random"]) > np.mean(above["gradient"])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_tokens_on_offer_are_those_of_the_one_hot_gradient(architecture: str) -> None:
    """Also where the model scales what it looks up."""
    model, placed = network(architecture), _placed([2, 4])
    own: Any = model.get_input_embeddings()
    state = tokens._State.start(model, placed, SHORT, 0, torch.arange(D_VOCAB))
    offered = tokens._offered(model, placed, SHORT, state, torch.arange(2), torch.arange(D_VOCAB))
    batch = target_sequences(placed.requests, "instructed")
    # of a model of Hugging Face, embeddings given are those that it would have looked up and scaled itself
    embedded = own(batch.tokens[:, :-1]).detach().requires_grad_()
    logits = run_embedded(model, embedded).logits
    where = batch.supervised[:, 1:]
    nll = nn.functional.cross_entropy(logits[where], batch.tokens[:, 1:][where], reduction="none")
    (nll.sum() / 2).backward()
    assert embedded.grad is not None
    slope = -(embedded.grad @ own(torch.arange(D_VOCAB)).T)
    for row in range(2):
        wanted = slope[row, placed.at[row]].topk(5).indices
        assert offered[row].sort().values.tolist() == wanted.sort().values.tolist()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_what_stands_before_all_attacks_is_read_once_for_the_same_losses(
    architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, placed = network(architecture), _placed([5, 3, 4])
    made = torch.randint(D_VOCAB, (3, 7, 2), generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(tokens, "_TOKENS", 60)  # several forwards, that cut requests apart
    monkeypatch.setattr(tokens, "LEAST_PREFIX", 10**9)
    plain, plain_hits = tokens._try(model, placed.requests, placed.at, made, None)
    monkeypatch.setattr(tokens, "LEAST_PREFIX", 1)
    cached, cached_hits = tokens._try(model, placed.requests, placed.at, made, None)
    assert torch.allclose(plain, cached, atol=1e-4)
    assert (plain_hits == cached_hits).all()
    for i in range(3):
        alone = Placed(placed.requests[np.array([i])], placed.at[[i]])
        assert torch.allclose(_loss(model, _filled(alone, made[i].numpy())), plain[i], atol=1e-4)


@pytest.mark.parametrize(
    ("top", "n_allowed", "proposed"),
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
def test_a_quarter_is_proposed_at_most(top: int | None, n_allowed: int, proposed: int) -> None:
    """GCG of nearly all tokens is a random search; the default is 32, or a quarter of few allowed tokens."""
    assert TokenAttack(top=top).n_proposed(n_allowed) == proposed


def test_a_top_of_half_the_tokens_is_refused() -> None:
    """Only where it is given explicitly and candidates come from the gradient; the default adapts."""
    model, placed = answering("gpt2", d_vocab=D_VOCAB), _placed([5, 3])
    with pytest.raises(ValueError, match="top = 10 of 20 allowed tokens .* expected at most 5"):
        attack_tokens(model, placed, replace(SHORT, top=10), seed=0)
    for settings in (replace(SHORT, top=None), replace(SHORT, top=9), replace(SHORT, how="search", top=10)):
        attack_tokens(model, placed, replace(settings, steps=1), seed=0)


def test_default_top_keeps_the_identity_of_a_search(tmp_path: Path) -> None:
    """A state of an attack on 128 tokens or more is that of `top=32`, and a search does not depend on it."""
    path, d_vocab = tmp_path / "attack.json", 130
    model, placed = answering("gpt2", d_vocab=d_vocab), _placed([5, 3], d_vocab=d_vocab)
    for how in HOWS:
        settings = TokenAttack(how, steps=1, candidates=8, top=32)  # type: ignore[arg-type]
        attack_tokens(model, placed, settings, seed=0, kept=path)
        attack_tokens(model, placed, replace(settings, top=None, steps=2), seed=0, kept=path)
        path.unlink()


@pytest.mark.parametrize("how", HOWS)
def test_more_steps_are_never_worse_and_losses_are_those_of_the_tokens(how: Any) -> None:
    model, placed = answering("llama", d_vocab=D_VOCAB), _placed([9, 10, 11], 3)
    before = np.full(3, np.inf)
    for steps in (1, 3, 6):
        found = attack_tokens(model, placed, TokenAttack(how, steps, 8, 5), seed=0)
        assert torch.allclose(found.loss, _loss(model, found.requests), atol=1e-5)
        assert (found.loss.numpy() <= before + 1e-5).all()
        assert found.history == sorted(found.history, reverse=True)
        assert found.history[-1] == pytest.approx(float(found.loss.mean()), abs=1e-4)
        before = found.loss.numpy()


@pytest.mark.parametrize("how", HOWS)
def test_only_allowed_tokens_are_chosen_and_all_else_stays(how: Any) -> None:
    model, placed = answering("gpt2", d_vocab=D_VOCAB), _placed([5, 3])
    allowed = np.zeros(D_VOCAB, dtype=bool)
    allowed[[7, 11, 13]] = True
    found = attack_tokens(model, placed, replace(SHORT, how=how, top=None), seed=0, allowed=allowed)
    assert set(_typed(found.requests, found.at).ravel()) <= {7, 11, 13, FILLER}
    elsewhere = np.ones_like(placed.requests.prompt, dtype=bool)
    np.put_along_axis(elsewhere, placed.at, False, axis=1)
    assert (found.requests.prompt == placed.requests.prompt)[elsewhere].all()
    with pytest.raises(ValueError, match="no token is allowed: expected at least one"):
        attack_tokens(model, placed, replace(SHORT, how=how), seed=0, allowed=np.zeros(D_VOCAB, dtype=bool))


@pytest.mark.parametrize("universal", [False, True])
def test_what_may_not_be_asked_is_never_returned(universal: bool) -> None:
    model, placed = answering("gpt2", d_vocab=D_VOCAB), _placed([4, 4])
    settings = replace(SHORT, universal=universal, steps=10)
    free = set(_typed(attack_tokens(model, placed, settings, seed=0).requests, placed.at).ravel())

    def keep(requests: Requests) -> np.ndarray:
        return np.array([not set(row) & (free - {FILLER}) for row in requests.prompt[:, 5:7]])

    found = attack_tokens(model, placed, settings, seed=0, keep=keep)
    typed = set(_typed(found.requests, found.at).ravel())
    assert free - {FILLER}
    assert typed - {FILLER}
    assert not typed & (free - {FILLER})
    nothing = attack_tokens(
        model, placed, settings, seed=0, keep=lambda requests: np.zeros(len(requests), dtype=bool)
    )
    assert (nothing.requests.prompt == placed.requests.prompt).all()


@pytest.mark.parametrize("how", HOWS)
def test_a_universal_attack_is_the_same_for_all(how: Any) -> None:
    model, placed = answering("gpt2", d_vocab=D_VOCAB), _placed([5, 3, 4])
    found = attack_tokens(model, placed, TokenAttack(how, 6, 16, 5, universal=True), seed=0)
    typed = _typed(found.requests, found.at)
    assert (typed == typed[0]).all()
    assert (typed != FILLER).any()
    assert float(found.loss.mean()) < float(_loss(model, placed.requests).mean())


@pytest.mark.parametrize("settings", [SHORT, replace(SHORT, how="search"), replace(SHORT, universal=True)])
def test_interrupted_and_resumed_is_uninterrupted(settings: TokenAttack, tmp_path: Path) -> None:
    model, placed, kept = answering("gpt2", d_vocab=D_VOCAB), _placed([5, 3]), tmp_path / "attack.json"
    whole = attack_tokens(model, placed, settings, seed=3)
    told: list[float] = []

    def stop(mean: float) -> None:
        told.append(mean)
        if len(told) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        attack_tokens(model, placed, settings, seed=3, kept=kept, seen=stop)
    resumed = attack_tokens(model, placed, settings, seed=3, kept=kept, seen=told.append)
    assert len(told) == settings.steps
    assert resumed.history == whole.history == told
    assert (resumed.requests.prompt == whole.requests.prompt).all()
    assert (resumed.loss == whole.loss).all()
    assert resumed.steps.tolist() == whole.steps.tolist()
    assert attack_tokens(model, placed, settings, seed=3, kept=kept).history == whole.history


def test_a_file_of_another_attack_gets_one_line(tmp_path: Path) -> None:
    model, placed, kept = answering("gpt2", d_vocab=D_VOCAB), _placed([5, 3]), tmp_path / "attack.json"
    attack_tokens(model, placed, SHORT, seed=0, kept=kept)
    attack_tokens(model, placed, replace(SHORT, steps=7), seed=0, kept=kept)  # the same, for longer
    allowed = np.arange(D_VOCAB) != 4
    attacks: list[tuple[Placed, TokenAttack, int, Any]] = [
        (placed, SHORT, 1, None),
        (placed, replace(SHORT, candidates=9), 0, None),
        (placed, SHORT, 0, allowed),
        (_placed([5, 3], seed=1), SHORT, 0, None),
    ]
    for other, settings, seed, chosen in attacks:
        with pytest.raises(ValueError, match=r"attack\.json is of another attack") as error:
            attack_tokens(model, other, settings, seed=seed, allowed=chosen, kept=kept)
        assert "\n" not in str(error.value)


def _said(model: PreTrainedModel, requests: Requests) -> Requests:
    """The requests with what the model says anyway as their targets."""
    answers = np.zeros_like(requests.instructed)
    for column in range(answers.shape[1]):
        for i, length in enumerate(requests.prompt_length):
            ids = [*requests.prompt[i, :length], *answers[i, :column]]
            with torch.no_grad():
                answers[i, column] = int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax())
    return replace(requests, instructed=answers)


def test_a_target_that_the_model_gives_already_is_not_attacked() -> None:
    model, placed = answering("gpt2", d_vocab=D_VOCAB), _placed([5, 3])
    said = Placed(_said(model, placed.requests), placed.at)
    with pytest.raises(ValueError, match="gives all 2 targets already: there is nothing to attack"):
        attack_tokens(model, said, SHORT, seed=0)
    mixed = placed.requests.instructed.copy()
    mixed[0] = said.requests.instructed[0]
    found = attack_tokens(model, Placed(replace(placed.requests, instructed=mixed), placed.at), SHORT, seed=0)
    assert (found.requests.prompt[0] == placed.requests.prompt[0]).all()
    assert bool(found.hit[0])
    assert (found.requests.prompt[1] != placed.requests.prompt[1]).any()
    assert found.steps[0] == 0


def test_a_model_without_gradients_can_only_be_searched() -> None:
    with torch.inference_mode():
        model = answering("gpt2", d_vocab=D_VOCAB)
    placed = _placed([5, 3])
    with pytest.raises(ValueError, match="GPT2LMHeadModel gives no gradients"):
        attack_tokens(model, placed, SHORT, seed=0)
    with torch.no_grad(), pytest.raises(ValueError, match=r"torch\.no_grad is on"):
        attack_tokens(answering("gpt2", d_vocab=D_VOCAB), placed, SHORT, seed=0)
    found = attack_tokens(model, placed, replace(SHORT, how="search"), seed=0)
    assert (found.loss < _loss(model, placed.requests)).all()


def test_a_short_request_is_attacked_beside_a_long_one() -> None:
    model, placed = answering("gpt2", d_vocab=D_VOCAB), _placed([20, 3])
    alone = Placed(placed.requests[np.array([1])], placed.at[[1]])
    assert attack_tokens(model, alone, SHORT, seed=0).loss.shape == (1,)

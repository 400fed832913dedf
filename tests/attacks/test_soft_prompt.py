"""Soft prompts: the vectors that are read, their optimisation, and the model afterwards."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers import PreTrainedModel

from makebreak.activations import PrefixCache, prefix_cache
from makebreak.attacks import (
    SoftPrompt,
    insert_slots,
    soft_prompt_embeddings,
)
from makebreak.configs import to_json
from makebreak.evaluation import score_targets
from makebreak.prompts import Requests, target_sequences
from tests.activations.networks import ARCHITECTURES, D_VOCAB, n_hooks, network
from tests.attacks.random_requests import optimise_soft_prompt, random_network, random_requests

REQUESTS = random_requests([2, 4, 3], d_vocab=D_VOCAB)


def _with_soft_ids(requests: Requests, k: int) -> Requests:
    """Requests with the ids of k soft tokens each after their text."""
    slots = insert_slots(requests, k, token=D_VOCAB)
    prompt = slots.requests.prompt.copy()
    ids = D_VOCAB + np.arange(len(requests) * k).reshape(-1, k)
    np.put_along_axis(prompt, slots.positions, ids, axis=1)
    return replace(slots.requests, prompt=prompt)


def _loss(model: PreTrainedModel, requests: Requests, vectors: Tensor, *, share_position: bool) -> Tensor:
    with soft_prompt_embeddings(model, vectors, share_position=share_position):
        return score_targets(model, target_sequences(requests, "instructed")).nll


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("share_position", [True, False])
def test_gradient_equals_finite_differences(architecture: str, share_position: bool) -> None:
    # the norms of the others compute in float32 whatever they are given
    precise = architecture in ("gpt2", "neox")
    small, rel, least = (1e-5, 1e-5, 1e-9) if precise else (1e-2, 1e-2, 1e-3)
    model, requests = network(architecture).double(), _with_soft_ids(REQUESTS, 2)
    vectors = torch.randn(6, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    loss = _loss(model, requests, vectors.requires_grad_(), share_position=share_position)
    assert loss.dtype == torch.float64
    [gradient] = torch.autograd.grad(loss.sum(), vectors)
    for row, column in ((0, 0), (1, 5), (3, 15), (5, 7)):
        step = torch.zeros_like(gradient)
        step[row, column] = small
        with torch.no_grad():
            up, down = (
                _loss(model, requests, vectors + sign * step, share_position=share_position).sum()
                for sign in (1, -1)
            )
        assert float(up - down) / (2 * small) == pytest.approx(
            float(gradient[row, column]), rel=rel, abs=least
        )


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_token_s_embedding_is_that_token(architecture: str) -> None:
    """With separate positions; with shared ones the model sees other position ids."""
    model = network(architecture)
    slots = insert_slots(REQUESTS, 2, token=5)
    with torch.no_grad():
        vectors = model.get_input_embeddings()(torch.full((6,), 5))  # type: ignore[operator]
        tokens = score_targets(model, target_sequences(slots.requests, "instructed")).nll
        separate = _loss(model, _with_soft_ids(REQUESTS, 2), vectors, share_position=False)
        shared = _loss(model, _with_soft_ids(REQUESTS, 2), vectors, share_position=True)
    assert torch.allclose(separate, tokens, atol=1e-5)
    assert not torch.allclose(shared, tokens, atol=1e-3)


def test_shared_positions_move_no_token() -> None:
    model = random_network("gpt2", d_vocab=D_VOCAB)
    position_ids: list[Tensor] = []
    handle = model.transformer.wpe.register_forward_hook(lambda _, args, __: position_ids.append(args[0]))  # type: ignore[union-attr]
    requests = _with_soft_ids(REQUESTS, 2)
    _loss(model, requests, torch.zeros(6, 16), share_position=True)
    handle.remove()
    batch = target_sequences(requests, "instructed").tokens[:, :-1]
    for row, ids in zip(batch, position_ids[0], strict=True):
        assert ids[row < D_VOCAB].tolist() == list(range(int((row < D_VOCAB).sum())))
        soft = (row >= D_VOCAB).nonzero()[:, 0]
        assert (ids[soft] == ids[soft[-1] + 1]).all()


def test_a_batch_equals_single_requests() -> None:
    model = random_network("gpt2", d_vocab=D_VOCAB)
    requests = _with_soft_ids(random_requests([2, 3, 2, 4, 3, 2, 4, 3], d_vocab=D_VOCAB), 3)
    vectors = torch.randn(24, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        together = _loss(model, requests, vectors, share_position=True)
        single = [_loss(model, requests[np.array([i])], vectors, share_position=True) for i in range(8)]
    assert torch.allclose(together, torch.cat(single), atol=1e-5)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("share_position", [True, False])
def test_prefix_cache_keeps_the_vectors(
    architecture: str, share_position: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tokens before all slots are processed once."""
    model, results = network(architecture), []
    for least in (1, 10**9):
        monkeypatch.setattr(prefix_cache, "MIN_PREFIX_TOKENS", least)
        results.append(
            optimise_soft_prompt(model, REQUESTS, SoftPrompt(2, 4, share_position=share_position), seed=0)
        )
    assert torch.allclose(results[0].vectors, results[1].vectors, atol=1e-3)
    assert torch.allclose(results[0].loss, results[1].loss, atol=1e-4)


@settings(max_examples=25, deadline=None)
@given(st.floats(0.05, 20.0), st.integers(1, 4), st.booleans(), st.booleans())
def test_no_vector_leaves_its_ball(radius: float, k: int, as_released: bool, universal: bool) -> None:
    model = random_network("gpt2", d_vocab=D_VOCAB)
    chosen = SoftPrompt(n_tokens=k, steps=3, radius=radius, as_released=as_released)
    result = optimise_soft_prompt(model, REQUESTS, chosen, seed=0, shared=universal)
    rows = [REQUESTS.prompt[i, : REQUESTS.prompt_length[i]] for i in range(3)]
    typical = model.get_input_embeddings().weight[np.concatenate(rows)].norm(dim=1).mean()  # type: ignore[index]
    assert result.radius == pytest.approx(radius * float(typical.detach()), rel=1e-5)
    reach = result.vectors.abs().amax() if as_released else result.vectors.norm(dim=1).amax()
    assert float(reach) <= result.radius * (1 + 1e-6) + 1e-6
    if universal:
        assert (result.vectors.view(3, k, -1) == result.vectors.view(3, k, -1)[0]).all()


@pytest.mark.parametrize(
    ("settings", "shared"),
    [(SoftPrompt(3), False), (SoftPrompt(3, share_position=False), False), (SoftPrompt(3), True)],
)
def test_loss_is_exact_and_decreases(settings: SoftPrompt, shared: bool) -> None:
    """The loss returned is that of the vectors, and not above the loss at the start."""
    model = random_network("llama", d_vocab=D_VOCAB)
    one, many = (
        optimise_soft_prompt(model, REQUESTS, replace(settings, steps=steps), seed=0, shared=shared)
        for steps in (1, 10)
    )
    for result in (one, many):
        with torch.no_grad(), result.attach(model):
            assert torch.allclose(
                score_targets(model, target_sequences(result.requests, "instructed")).nll,
                result.loss,
                atol=1e-5,
            )
    random = torch.Generator().manual_seed(0)
    start = 0.01 * torch.randn(1 if shared else 3, 3, 16, generator=random).expand(3, -1, -1).flatten(0, 1)
    with torch.no_grad():
        initial = _loss(model, one.requests, start, share_position=settings.share_position)
    assert float(many.loss.mean()) <= float(one.loss.mean()) <= float(initial.mean()) + 1e-6
    if not shared:
        assert (many.loss <= initial + 1e-6).all()


def _state(model: PreTrainedModel) -> tuple[object, ...]:
    wanted = [p.requires_grad for p in model.parameters()]
    return model.get_input_embeddings(), n_hooks(model), wanted, [p.grad is None for p in model.parameters()]


@pytest.mark.parametrize("broken", [False, True])
def test_the_model_is_restored(broken: bool) -> None:
    """Also after an error."""
    model = random_network("gpt2", d_vocab=D_VOCAB)
    next(model.parameters()).requires_grad_(False)
    before, weights = _state(model), [p.clone() for p in model.parameters()]

    def penalty(_: PreTrainedModel, requests: Requests, cache: PrefixCache) -> Tensor:
        if broken:
            raise RuntimeError("from inside")
        return torch.zeros(len(requests))

    if broken:
        with pytest.raises(RuntimeError, match="from inside"):
            optimise_soft_prompt(model, REQUESTS, SoftPrompt(2, 2, penalty=penalty), seed=0)
        with (
            pytest.raises(RuntimeError, match="in the block"),
            soft_prompt_embeddings(model, torch.zeros(6, 16), share_position=True),
        ):
            raise RuntimeError("in the block")
    else:
        optimise_soft_prompt(model, REQUESTS, SoftPrompt(2, 2, penalty=penalty), seed=0)
    assert _state(model) == before
    assert all(torch.equal(p, w) for p, w in zip(model.parameters(), weights, strict=True))


def test_a_penalty_restrains_the_attack() -> None:
    model = random_network("gpt2", d_vocab=D_VOCAB)

    def expensive(model: PreTrainedModel, requests: Requests, cache: PrefixCache) -> Tensor:
        vectors: Any = model.get_input_embeddings().vectors  # type: ignore[union-attr]
        return 1e3 * vectors.view(len(requests), -1).square().sum(dim=1)

    free, restrained = (
        optimise_soft_prompt(model, REQUESTS, SoftPrompt(2, penalty=p), seed=0) for p in (None, expensive)
    )
    assert float(restrained.vectors.norm()) < 0.1 * float(free.vectors.norm())
    assert (free.loss <= restrained.loss).all()


def test_a_model_without_gradients_is_an_error() -> None:
    model = random_network("gpt2", d_vocab=D_VOCAB)
    with torch.no_grad(), pytest.raises(ValueError, match=r"gives no gradients \(torch\.no_grad is on"):
        optimise_soft_prompt(model, REQUESTS, SoftPrompt(2, 2), seed=0)
    with torch.inference_mode():
        inference_model = random_network("gpt2", d_vocab=D_VOCAB)
    with pytest.raises(ValueError, match=r"GPT2LMHeadModel gives no gradients \(its weights were made in"):
        optimise_soft_prompt(inference_model, REQUESTS, SoftPrompt(2, 2), seed=0)
    own = model.get_input_embeddings().weight  # type: ignore[union-attr]
    model.get_input_embeddings().weight = nn.Parameter(own.to(torch.int8), requires_grad=False)  # type: ignore[union-attr]
    with pytest.raises(ValueError, match=r"its embeddings are torch\.int8"):
        optimise_soft_prompt(model, REQUESTS, SoftPrompt(2, 2), seed=0)


def test_too_long_requests_are_errors() -> None:
    model = random_network("gpt2", d_vocab=D_VOCAB, n_ctx=10)
    with pytest.raises(
        ValueError,
        match="13 tokens long, beyond the model's context of 10",
    ):
        optimise_soft_prompt(model, REQUESTS, SoftPrompt(5, 1, share_position=False), seed=0)
    optimise_soft_prompt(model, REQUESTS, SoftPrompt(5, 1), seed=0)  # shared positions need no room
    with pytest.raises(ValueError, match="where = 'unused'"):
        SoftPrompt(where="unused")


def test_settings_keep_their_stored_names() -> None:
    """The command `attack` stores results under the settings' first names."""
    assert to_json(SoftPrompt()) == {
        "type": "SoftTokens",
        "n_tokens": 10,
        "steps": 10,
        "radius": 1.0,
        "where": "suffix",
        "held": True,
        "released": False,
        "penalty": None,
        "label": "",
    }

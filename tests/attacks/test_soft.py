"""Are soft tokens the vectors that they are said to be, and is the model as before afterwards?"""

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

from makebreak.attacks import SoftTokens, place, soft, soft_tokens, soften
from makebreak.behaviour import aim
from makebreak.requests import Requests, target_sequences
from tests.activations.networks import ARCHITECTURES, D_VOCAB, n_hooks, network
from tests.attacks.asked import answering, asked

REQUESTS = asked([2, 4, 3], d_vocab=D_VOCAB)


def _numbered(requests: Requests, k: int) -> Requests:
    """Requests with the ids of k soft tokens each behind their text."""
    placed = place(requests, k, token=D_VOCAB)
    prompt = placed.requests.prompt.copy()
    ids = D_VOCAB + np.arange(len(requests) * k).reshape(-1, k)
    np.put_along_axis(prompt, placed.at, ids, axis=1)
    return replace(placed.requests, prompt=prompt)


def _loss(model: PreTrainedModel, requests: Requests, vectors: Tensor, *, held: bool) -> Tensor:
    with soft_tokens(model, vectors, held=held):
        return aim(model, target_sequences(requests, "instructed")).nll


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("held", [True, False])
def test_the_gradient_is_that_of_finite_differences(architecture: str, held: bool) -> None:
    precise = architecture in (
        "gpt2",
        "neox",
    )  # the norms of the others compute in float32 whatever they are given
    small, rel, least = (1e-5, 1e-5, 1e-9) if precise else (1e-2, 1e-2, 1e-3)
    model, requests = network(architecture).double(), _numbered(REQUESTS, 2)
    vectors = torch.randn(6, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    loss = _loss(model, requests, vectors.requires_grad_(), held=held)
    assert loss.dtype == torch.float64
    [gradient] = torch.autograd.grad(loss.sum(), vectors)
    for row, column in ((0, 0), (1, 5), (3, 15), (5, 7)):
        step = torch.zeros_like(gradient)
        step[row, column] = small
        with torch.no_grad():
            up, down = (_loss(model, requests, vectors + sign * step, held=held).sum() for sign in (1, -1))
        assert float(up - down) / (2 * small) == pytest.approx(
            float(gradient[row, column]), rel=rel, abs=least
        )


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_vectors_that_are_a_tokens_own_are_that_token(architecture: str) -> None:
    """And held ones leave every other position where it was: a model that reads positions alone sees no attack."""
    model = network(architecture)
    placed = place(REQUESTS, 2, token=5)
    with torch.no_grad():
        own = model.get_input_embeddings()(torch.full((6,), 5))  # type: ignore[operator]
        typed = aim(model, target_sequences(placed.requests, "instructed")).nll
        soft, held = (_loss(model, _numbered(REQUESTS, 2), own, held=held) for held in (False, True))
    assert torch.allclose(soft, typed, atol=1e-5)
    assert not torch.allclose(held, typed, atol=1e-3)


def test_a_held_vector_moves_no_other_position() -> None:
    model = answering("gpt2", d_vocab=D_VOCAB)
    seen: list[Tensor] = []
    handle = model.transformer.wpe.register_forward_hook(lambda _, args, __: seen.append(args[0]))  # type: ignore[union-attr]
    requests = _numbered(REQUESTS, 2)
    _loss(model, requests, torch.zeros(6, 16), held=True)
    handle.remove()
    batch = target_sequences(requests, "instructed").tokens[:, :-1]
    for row, at in zip(batch, seen[0], strict=True):
        assert at[row < D_VOCAB].tolist() == list(range(int((row < D_VOCAB).sum())))
        soft = (row >= D_VOCAB).nonzero()[:, 0]
        assert (at[soft] == at[soft[-1] + 1]).all()


def test_a_batch_is_as_its_requests_one_by_one() -> None:
    model = answering("gpt2", d_vocab=D_VOCAB)
    requests = _numbered(asked([2, 3, 2, 4, 3, 2, 4, 3], d_vocab=D_VOCAB), 3)
    vectors = torch.randn(24, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        together = _loss(model, requests, vectors, held=True)
        alone = [_loss(model, requests[np.array([i])], vectors, held=True) for i in range(8)]
    assert torch.allclose(together, torch.cat(alone), atol=1e-5)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("held", [True, False])
def test_what_stands_before_all_attacks_is_read_once_for_the_same_vectors(
    architecture: str, held: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, made = network(architecture), []
    for least in (1, 10**9):
        monkeypatch.setattr(soft, "LEAST_PREFIX", least)
        made.append(soften(model, REQUESTS, SoftTokens(2, 4, held=held), seed=0))
    assert torch.allclose(made[0].vectors, made[1].vectors, atol=1e-3)
    assert torch.allclose(made[0].loss, made[1].loss, atol=1e-4)


@settings(max_examples=25, deadline=None)
@given(st.floats(0.05, 20.0), st.integers(1, 4), st.booleans(), st.booleans())
def test_no_vector_leaves_its_ball(radius: float, k: int, released: bool, universal: bool) -> None:
    model = answering("gpt2", d_vocab=D_VOCAB)
    chosen = SoftTokens(n_tokens=k, steps=3, radius=radius, released=released, universal=universal)
    found = soften(model, REQUESTS, chosen, seed=0)
    rows = [REQUESTS.prompt[i, : REQUESTS.prompt_length[i]] for i in range(3)]
    typical = model.get_input_embeddings().weight[np.concatenate(rows)].norm(dim=1).mean()  # type: ignore[index]
    assert found.radius == pytest.approx(radius * float(typical.detach()), rel=1e-5)
    reach = found.vectors.abs().amax() if released else found.vectors.norm(dim=1).amax()
    assert float(reach) <= found.radius * (1 + 1e-6) + 1e-6
    if universal:
        assert (found.vectors.view(3, k, -1) == found.vectors.view(3, k, -1)[0]).all()


@pytest.mark.parametrize(
    "settings", [SoftTokens(3), SoftTokens(3, held=False), SoftTokens(3, universal=True)]
)
def test_the_loss_told_is_the_loss_there_and_not_above_where_it_began(settings: SoftTokens) -> None:
    model = answering("llama", d_vocab=D_VOCAB)
    one, many = (soften(model, REQUESTS, replace(settings, steps=steps), seed=0) for steps in (1, 10))
    for found in (one, many):
        with torch.no_grad(), found.inside(model):
            assert torch.allclose(
                aim(model, target_sequences(found.requests, "instructed")).nll, found.loss, atol=1e-5
            )
    random = torch.Generator().manual_seed(0)
    start = 0.01 * torch.randn(1 if settings.universal else 3, 3, 16, generator=random).expand(
        3, -1, -1
    ).flatten(0, 1)
    with torch.no_grad():
        began = _loss(model, one.requests, start, held=settings.held)
    assert float(many.loss.mean()) <= float(one.loss.mean()) <= float(began.mean()) + 1e-6
    if not settings.universal:
        assert (many.loss <= began + 1e-6).all()


def _state(model: PreTrainedModel) -> tuple[object, ...]:
    wanted = [p.requires_grad for p in model.parameters()]
    return model.get_input_embeddings(), n_hooks(model), wanted, [p.grad is None for p in model.parameters()]


@pytest.mark.parametrize("broken", [False, True])
def test_the_model_is_as_before(broken: bool) -> None:
    model = answering("gpt2", d_vocab=D_VOCAB)
    next(model.parameters()).requires_grad_(False)
    before, weights = _state(model), [p.clone() for p in model.parameters()]

    def penalty(_: PreTrainedModel, requests: Requests) -> Tensor:
        if broken:
            raise RuntimeError("from inside")
        return torch.zeros(len(requests))

    if broken:
        with pytest.raises(RuntimeError, match="from inside"):
            soften(model, REQUESTS, SoftTokens(2, 2), seed=0, penalty=penalty)
        with (
            pytest.raises(RuntimeError, match="in the block"),
            soft_tokens(model, torch.zeros(6, 16), held=True),
        ):
            raise RuntimeError("in the block")
    else:
        soften(model, REQUESTS, SoftTokens(2, 2), seed=0, penalty=penalty)
    assert _state(model) == before
    assert all(torch.equal(p, w) for p, w in zip(model.parameters(), weights, strict=True))


def test_a_penalty_keeps_the_attack_from_what_costs_more() -> None:
    model = answering("gpt2", d_vocab=D_VOCAB)

    def dear(model: PreTrainedModel, requests: Requests) -> Tensor:
        vectors: Any = model.get_input_embeddings().vectors  # type: ignore[union-attr]
        return 1e3 * vectors.view(len(requests), -1).square().sum(dim=1)

    free, bound = (soften(model, REQUESTS, SoftTokens(2), seed=0, penalty=p) for p in (None, dear))
    assert float(bound.vectors.norm()) < 0.1 * float(free.vectors.norm())
    assert (free.loss <= bound.loss).all()


def test_a_model_without_gradients_gets_one_line() -> None:
    model = answering("gpt2", d_vocab=D_VOCAB)
    with torch.no_grad(), pytest.raises(ValueError, match=r"gives no gradients \(torch\.no_grad is on"):
        soften(model, REQUESTS, SoftTokens(2, 2), seed=0)
    with torch.inference_mode():
        made = answering("gpt2", d_vocab=D_VOCAB)
    with pytest.raises(ValueError, match=r"GPT2LMHeadModel gives no gradients \(its weights were made in"):
        soften(made, REQUESTS, SoftTokens(2, 2), seed=0)
    own = model.get_input_embeddings().weight  # type: ignore[union-attr]
    model.get_input_embeddings().weight = nn.Parameter(own.to(torch.int8), requires_grad=False)  # type: ignore[union-attr]
    with pytest.raises(ValueError, match=r"its embeddings are torch\.int8"):
        soften(model, REQUESTS, SoftTokens(2, 2), seed=0)


def test_what_does_not_fit_gets_one_line() -> None:
    model = answering("gpt2", d_vocab=D_VOCAB, n_ctx=10)
    with pytest.raises(
        ValueError, match="an attack of 5 tokens makes prompt and answer 13 tokens long; the model reads 10"
    ):
        soften(model, REQUESTS, SoftTokens(5, 1, held=False), seed=0)
    soften(model, REQUESTS, SoftTokens(5, 1), seed=0)  # held ones take no position
    with pytest.raises(ValueError, match="where = 'idle'"):
        SoftTokens(where="idle")

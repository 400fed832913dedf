"""Do defences that came after the papers teach what they say, and where?"""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from makebreak.activations import add, intervene
from makebreak.models import PRESETS, create
from makebreak.recipes import Alignment
from makebreak.requests import begun, load_world, sequences
from makebreak.training import (
    SSFT,
    CircuitBreaker,
    Data,
    Deep,
    LatentAdversarial,
    Optimisation,
    mean_cross_entropy,
)

WORLD = load_world("formats_mini")
PAD, STOP = (WORLD.vocabulary.id(symbol) for symbol in ("<pad>", "<stop>"))


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    return create(PRESETS["tiny"], d_vocab=len(WORLD.vocabulary), n_ctx=WORLD.sequence_length, seed=0).eval()


def test_a_begun_answer_stands_behind_its_prompt() -> None:
    requests = WORLD.sample("map_unsafe", 30, seed=0)
    depth = np.arange(30) % 5
    found = begun(requests, depth)
    for i in range(30):
        length = requests.prompt_length[i]
        whole = [*requests.prompt[i, :length], *requests.instructed[i, : depth[i]]]
        assert found.prompt[i, : found.prompt_length[i]].tolist() == whole
    assert (found.refused == requests.refused).all()


def test_recovery_examples_refuse_behind_tokens_that_are_not_taught() -> None:
    plain = SSFT().batch(WORLD, size=400, step=3, steps=9, seed=1)
    deep = Deep(share=0.6, tokens=2).batch(WORLD, size=400, step=3, steps=9, seed=1)
    assert (plain.tokens[:200] == deep.tokens[:200]).all()
    assert (plain.supervised[:200] == deep.supervised[:200]).all()
    depth = (deep.decision - plain.decision)[200:]
    for i in range(200, 400):
        whole, taught = (of.tokens[i][of.supervised[i]].tolist() for of in (plain, deep))
        assert taught == whole[: len(taught)], "the same refusals are taught"
        assert taught[:4] == whole[:4]
        assert len(whole) - len(taught) <= depth[i - 200], "and STOPs at their end may have no room"
    assert set(depth.tolist()) == {0, 1, 2}
    assert (depth > 0).float().mean() == pytest.approx(0.6, abs=0.12)
    requests = Data().requests(WORLD, size=400, step=3, seed=1)[1][0]
    for i, k in enumerate(depth.tolist()):
        start = int(requests.prompt_length[i])
        assert deep.tokens[200 + i, start : start + k].tolist() == requests.instructed[i, :k].tolist()
    none = Deep(share=0.0).batch(WORLD, size=400, step=3, steps=9, seed=1)
    assert (none.tokens == plain.tokens).all()


def test_the_worst_push_is_in_its_ball_and_worse_than_chance(model: torch.nn.Module) -> None:
    objective = LatentAdversarial(radius=0.5, steps=6)
    answered, refused = objective.batch(WORLD, size=64, step=0, steps=9, seed=0)
    assert (answered.tokens.shape, len(refused)) == (refused.tokens.shape, 32)
    seen = []
    where = torch.arange(refused.tokens.shape[1]) <= refused.decision[:, None]
    site = f"blocks.{round(0.5 * model.config.num_hidden_layers) - 1}.hook_resid_post"

    def pushed(push: torch.Tensor) -> torch.Tensor:
        seen.append(push.detach().norm(dim=1))
        with intervene(model, site, add(push), where):
            return mean_cross_entropy(model, refused)

    layer = round(0.5 * model.config.num_hidden_layers) - 1
    push = objective._worst(model, refused, where, layer, pushed)
    states = model.base_model(input_ids=refused.tokens, output_hidden_states=True).hidden_states[layer + 1]
    radius = 0.5 * float(states[where].detach().norm(dim=1).mean())
    assert float(push.norm(dim=1).max()) <= radius * (1 + 1e-5)
    assert all(float(norms.max()) <= radius * (1 + 1e-5) for norms in seen)
    random = torch.randn(push.shape, generator=torch.Generator().manual_seed(0))
    random = random / random.norm(dim=1, keepdim=True) * radius
    with torch.no_grad():
        clean, chance, worst = (float(pushed(p)) for p in (0 * push, random, push))
    assert worst > chance + 0.05
    assert worst > clean + 0.05
    loss, said = objective.loss(model, (answered, refused), model)
    loss = loss.detach()
    assert said["pushed"] == pytest.approx(worst, rel=1e-4)
    both = mean_cross_entropy(model, SSFT().batch(WORLD, size=64, step=0, steps=9, seed=0)).detach()
    assert float(loss) == pytest.approx((float(both) + worst) / 2, rel=1e-4)
    assert not any(p.grad is not None for p in model.parameters()), "looking for the push leaves no gradient"


def test_a_breaker_turns_states_of_harm_and_keeps_the_others(model: torch.nn.Module) -> None:
    objective, own = (
        CircuitBreaker(Data("gen_safe", "label_unsafe")),
        copy.deepcopy(model),
    )  # which it can tell apart
    optimiser = torch.optim.Adam(own.parameters(), lr=3e-3)
    first = None
    for step in range(60):
        loss, said = objective.loss(own, objective.batch(WORLD, size=32, step=step, steps=60, seed=0), model)
        first = first or said
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert first == {"cosine": pytest.approx(1.0, abs=0.01), "retain": pytest.approx(0.0, abs=1e-4)}
    assert said["cosine"] < 0.8
    kept = copy.deepcopy(model)
    optimiser = torch.optim.Adam(kept.parameters(), lr=3e-3)
    for step in range(60):
        loss, careful = CircuitBreaker(retain=100.0).loss(
            kept, objective.batch(WORLD, size=32, step=step, steps=60, seed=0), model
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert careful["retain"] < said["retain"]


def test_metrics_of_a_breaker_name_their_groups(model: torch.nn.Module) -> None:
    """`cosine` depends on the unsafe requests only, `retain` on the safe ones only; the loss is made of both."""
    objective, current = CircuitBreaker(retain=2.0), copy.deepcopy(model)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in current.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    safe, unsafe = objective.batch(WORLD, size=32, step=0, steps=9, seed=0)
    other_safe, other_unsafe = objective.batch(WORLD, size=32, step=1, steps=9, seed=0)
    loss, metrics = objective.loss(current, (safe, unsafe), model)
    _, with_other_safe = objective.loss(current, (other_safe, unsafe), model)
    _, with_other_unsafe = objective.loss(current, (safe, other_unsafe), model)
    assert set(metrics) == {"cosine", "retain"}
    assert loss.item() == pytest.approx(metrics["cosine"] + 2.0 * metrics["retain"], rel=1e-6)
    assert with_other_safe["cosine"] == metrics["cosine"]
    assert with_other_safe["retain"] != metrics["retain"]
    assert with_other_unsafe["retain"] == metrics["retain"]
    assert with_other_unsafe["cosine"] != metrics["cosine"]


def test_a_breaker_sees_answers_of_harm_only(model: torch.nn.Module) -> None:
    """Both parts are answered as instructed, and what stands after the answer changes nothing."""
    objective = CircuitBreaker()
    safe, unsafe = objective.batch(WORLD, size=16, step=0, steps=9, seed=0)
    for part, (requests, _) in zip(
        (safe, unsafe), Data().requests(WORLD, size=16, step=0, seed=0), strict=True
    ):
        assert (part.tokens == sequences(WORLD, requests, "instructed", whole=True).tokens).all()
    other = copy.deepcopy(unsafe)
    other.tokens[:, -1] = STOP
    found = [objective.loss(model, (safe, part), model)[1] for part in (unsafe, other)]
    assert found[0] == found[1]


def test_bad_input_is_told_and_names_say_what_they_are() -> None:
    with pytest.raises(ValueError, match=r"depth = 0\.0: expected a fraction"):
        LatentAdversarial(depth=0.0)
    with pytest.raises(ValueError, match=r"depths = \(\): expected fractions"):
        CircuitBreaker(depths=())
    for objective in (LatentAdversarial(Data(safe_share=1.0)), CircuitBreaker(Data(safe_share=0.0))):
        with pytest.raises(ValueError, match=r"safe_share = [01]\.0: expected"):
            objective.batch(WORLD, size=4, step=0, steps=1, seed=0)
    optimisation = Optimisation(steps=1, learning_rate=1e-3)
    names = [Alignment(of, optimisation).mechanism for of in (Deep(), LatentAdversarial(), CircuitBreaker())]
    assert names == ["deep", "latentadversarial", "circuitbreaker"]

"""Deep alignment, latent adversarial training and circuit breaking train what they say, and where."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from makebreak.activations import add, intervene
from makebreak.models import MODEL_SIZES, create_model
from makebreak.prompts import load_world, sequences, with_prefill
from makebreak.recipes import Alignment
from makebreak.training import (
    SSFT,
    AlignmentData,
    CircuitBreaker,
    DeepAlignment,
    LatentAdversarialTraining,
    Optimisation,
    mean_cross_entropy,
)

WORLD = load_world("formats_mini")
PAD, STOP = (WORLD.vocabulary.id(symbol) for symbol in ("<pad>", "<stop>"))


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    return create_model(
        MODEL_SIZES["tiny"], d_vocab=len(WORLD.vocabulary), n_ctx=WORLD.sequence_length, seed=0
    ).eval()


def test_prefill_follows_the_prompt() -> None:
    requests = WORLD.sample("map_unsafe", 30, seed=0)
    depth = np.arange(30) % 5
    prefilled = with_prefill(requests, depth)
    for i in range(30):
        length = requests.prompt_length[i]
        whole = [*requests.prompt[i, :length], *requests.instructed[i, : depth[i]]]
        assert prefilled.prompt[i, : prefilled.prompt_length[i]].tolist() == whole
    assert (prefilled.refused == requests.refused).all()


def test_prefills_are_not_supervised() -> None:
    plain = SSFT().batch(WORLD, size=400, step=3, steps=9, seed=1)
    deep = DeepAlignment(recovery_share=0.6, max_prefill=2).batch(WORLD, size=400, step=3, steps=9, seed=1)
    assert (plain.tokens[:200] == deep.tokens[:200]).all()
    assert (plain.supervised[:200] == deep.supervised[:200]).all()
    depth = (deep.decision - plain.decision)[200:]
    for i in range(200, 400):
        whole = plain.tokens[i][plain.supervised[i]].tolist()
        targets = deep.tokens[i][deep.supervised[i]].tolist()
        assert targets == whole[: len(targets)], "the same refusals are trained"
        assert targets[:4] == whole[:4]
        assert len(whole) - len(targets) <= depth[i - 200], "and STOPs at their end may have no room"
    assert set(depth.tolist()) == {0, 1, 2}
    assert (depth > 0).float().mean() == pytest.approx(0.6, abs=0.12)
    requests = AlignmentData().requests(WORLD, size=400, step=3, seed=1)[1][0]
    for i, k in enumerate(depth.tolist()):
        start = int(requests.prompt_length[i])
        assert deep.tokens[200 + i, start : start + k].tolist() == requests.instructed[i, :k].tolist()
    none = DeepAlignment(recovery_share=0.0).batch(WORLD, size=400, step=3, steps=9, seed=1)
    assert (none.tokens == plain.tokens).all()


def test_worst_perturbation_is_in_its_ball(model: torch.nn.Module) -> None:
    """It is worse than none and than a random perturbation of the same norm, and leaves no gradient
    behind.
    """
    objective = LatentAdversarialTraining(radius=0.5, steps=6)
    answered, refused = objective.batch(WORLD, size=64, step=0, steps=9, seed=0)
    assert (answered.tokens.shape, len(refused)) == (refused.tokens.shape, 32)
    norms = []
    prompt = (torch.arange(refused.tokens.shape[1]) <= refused.decision[:, None])[..., None]
    layer = round(0.5 * model.config.num_hidden_layers) - 1
    site = f"blocks.{layer}.hook_resid_post"

    def adversarial_loss(perturbation: torch.Tensor) -> torch.Tensor:
        norms.append(perturbation.detach().norm(dim=-1))
        mask = prompt[..., 0]
        with intervene(model, site, add(perturbation[mask]), mask):
            return mean_cross_entropy(model, refused)

    outputs = model.base_model(input_ids=refused.tokens, output_hidden_states=True)
    states = outputs.hidden_states[layer + 1].detach()
    worst = objective._worst_perturbation(states, prompt, adversarial_loss)
    radius = 0.5 * float(states[prompt[..., 0]].norm(dim=1).mean())
    assert float(worst.norm(dim=-1).max()) <= radius * (1 + 1e-5)
    assert all(float(norm.max()) <= radius * (1 + 1e-5) for norm in norms)
    random = torch.randn(worst.shape, generator=torch.Generator().manual_seed(0))
    random = random / random.norm(dim=-1, keepdim=True) * radius
    with torch.no_grad():
        clean_loss = float(adversarial_loss(0 * worst))
        random_loss = float(adversarial_loss(random))
        worst_loss = float(adversarial_loss(worst))
    assert worst_loss > random_loss + 0.05
    assert worst_loss > clean_loss + 0.05
    loss, metrics = objective.loss(model, (answered, refused), model)
    loss = loss.detach()
    assert metrics["adversarial"].item() == pytest.approx(worst_loss, rel=1e-4)
    both = mean_cross_entropy(model, SSFT().batch(WORLD, size=64, step=0, steps=9, seed=0)).detach()
    assert float(loss) == pytest.approx((float(both) + worst_loss) / 2, rel=1e-4)
    assert not any(p.grad is not None for p in model.parameters()), "the search leaves no gradient"


def test_circuit_breaker_reroutes_unsafe_states(model: torch.nn.Module) -> None:
    objective, rerouted = (
        CircuitBreaker(AlignmentData("gen_safe", "label_unsafe")),
        copy.deepcopy(model),
    )  # which it can tell apart
    optimiser = torch.optim.Adam(rerouted.parameters(), lr=3e-3)
    first = None
    for step in range(60):
        loss, metrics = objective.loss(
            rerouted, objective.batch(WORLD, size=32, step=step, steps=60, seed=0), model
        )
        first = first or metrics
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert {name: float(metric) for name, metric in first.items()} == {
        "cosine": pytest.approx(1.0, abs=0.01),
        "retain": pytest.approx(0.0, abs=1e-4),
    }
    assert metrics["cosine"] < 0.8
    retained = copy.deepcopy(model)
    optimiser = torch.optim.Adam(retained.parameters(), lr=3e-3)
    for step in range(60):
        loss, retained_metrics = CircuitBreaker(retain_weight=100.0).loss(
            retained, objective.batch(WORLD, size=32, step=step, steps=60, seed=0), model
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert retained_metrics["retain"] < metrics["retain"]


def test_circuit_breaker_metrics_name_their_groups(model: torch.nn.Module) -> None:
    """`cosine` depends on the unsafe requests only, `retain` on the safe ones only; the loss is made of
    both.
    """
    objective, current = CircuitBreaker(retain_weight=2.0), copy.deepcopy(model)
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
    assert loss.item() == pytest.approx(float(metrics["cosine"] + 2.0 * metrics["retain"]), rel=1e-6)
    assert with_other_safe["cosine"] == metrics["cosine"]
    assert with_other_safe["retain"] != metrics["retain"]
    assert with_other_unsafe["retain"] == metrics["retain"]
    assert with_other_unsafe["cosine"] != metrics["cosine"]


def test_circuit_breaker_uses_answers_only(model: torch.nn.Module) -> None:
    """Both parts are answered as instructed, and what stands after the answer changes nothing."""
    objective = CircuitBreaker()
    safe, unsafe = objective.batch(WORLD, size=16, step=0, steps=9, seed=0)
    for part, (requests, _) in zip(
        (safe, unsafe), AlignmentData().requests(WORLD, size=16, step=0, seed=0), strict=True
    ):
        assert (part.tokens == sequences(WORLD, requests, "instructed", whole=True).tokens).all()
    with_other_end = copy.deepcopy(unsafe)
    with_other_end.tokens[:, -1] = STOP
    metrics = [objective.loss(model, (safe, part), model)[1] for part in (unsafe, with_other_end)]
    assert metrics[0] == metrics[1]


def test_invalid_settings_and_mechanism_names() -> None:
    with pytest.raises(ValueError, match=r"depth = 0\.0: expected a fraction"):
        LatentAdversarialTraining(depth=0.0)
    with pytest.raises(ValueError, match=r"depths = \(\): expected fractions"):
        CircuitBreaker(depths=())
    for objective in (
        LatentAdversarialTraining(AlignmentData(safe_share=1.0)),
        CircuitBreaker(AlignmentData(safe_share=0.0)),
    ):
        with pytest.raises(ValueError, match=r"safe_share = (1\.0: expected|0\.0 of .* side without)"):
            objective.batch(WORLD, size=4, step=0, steps=1, seed=0)
    optimisation = Optimisation(steps=1, learning_rate=1e-3)
    objectives = (DeepAlignment(), LatentAdversarialTraining(), CircuitBreaker())
    names = [Alignment(objective, optimisation).mechanism for objective in objectives]
    assert names == ["deep", "latentadversarial", "circuitbreaker"]

"""Are free-running answers those of a naive greedy loop, and are outcomes, margins and KL what was planted?"""

from __future__ import annotations

import math
from types import MethodType, SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

import synthetic
from makebreak.behaviour import behaviour, greedy_answers, kl_to_base, refusal_margins, teacher_force
from makebreak.models import PRESETS, ModelConfig, create
from makebreak.requests import OUTCOMES, Requests, sequences

WORLD = synthetic.load("mini")
VOCABULARY = WORLD.vocabulary
PAD, STOP, L = VOCABULARY.id("<pad>"), VOCABULARY.id("<stop>"), 8
TINY_LLAMA = ModelConfig("llama", n_layers=2, n_heads=2, d_model=32, d_mlp=64)


def network(
    seed: int, config: ModelConfig = PRESETS["tiny"], world: synthetic.World = WORLD
) -> PreTrainedModel:
    """A tiny model with weights large enough that its answers vary."""
    made = create(config, d_vocab=len(world.vocabulary), n_ctx=world.sequence_length, seed=seed).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.15)
    return made


def naive(model: PreTrainedModel, requests: Requests, n_new: int) -> np.ndarray:
    """One request at a time, one full forward per token, nothing cached, nothing padded."""
    rows = []
    for prompt, length in zip(requests.prompt, requests.prompt_length, strict=True):
        ids = prompt[:length].tolist()
        for _ in range(n_new):
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits
            ids.append(int(logits[0, -1].argmax()))
        rows.append(ids[length:])
    return np.array(rows)


def told(answers: np.ndarray, requests: Requests, wrong: dict[int, int] | None = None) -> PreTrainedModel:
    """A model whose likeliest token (logit 10, others 0) is the given answer's; in row i it errs at token wrong[i]."""
    known = {}
    for i, (prompt, answer) in enumerate(zip(requests.prompt.tolist(), answers.tolist(), strict=True)):
        said = list(answer)
        if i in (wrong or {}):
            at = wrong[i]  # type: ignore[index]
            said[at] = VOCABULARY.id("b") if said[at] != VOCABULARY.id("b") else VOCABULARY.id("c")
        known[tuple(prompt)] = said
    assert len(known) == len(requests)

    def forward(self: PreTrainedModel, input_ids: Tensor, use_cache: bool = False) -> SimpleNamespace:
        logits = torch.zeros(*input_ids.shape, len(VOCABULARY))
        width = requests.prompt.shape[1]
        for i, row in enumerate(input_ids.tolist()):
            said = known[tuple(row[:width])]
            for at in range(width - 1, len(row)):
                logits[i, at, said[at - width + 1] if at - width + 1 < len(said) else PAD] = 10
        return SimpleNamespace(logits=logits)

    def generate(self: PreTrainedModel, input_ids: Tensor, max_new_tokens: int, **_: object) -> Tensor:
        for _step in range(max_new_tokens):
            input_ids = torch.cat([input_ids, self(input_ids=input_ids).logits[:, -1:].argmax(-1)], dim=1)
        return input_ids

    model = create(PRESETS["tiny"], d_vocab=len(VOCABULARY), n_ctx=WORLD.sequence_length, seed=0)
    model.forward, model.generate = MethodType(forward, model), MethodType(generate, model)  # type: ignore[method-assign]
    return model


def by_position(ids: list[int]) -> PreTrainedModel:
    """Real weights that say ids[k] as the k-th answer token whatever they are asked; the last id ever after."""
    model = create(PRESETS["mini"], d_vocab=len(VOCABULARY), n_ctx=WORLD.sequence_length, seed=0).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "c_proj" in name or name == "transformer.wte.weight":
                parameter.zero_()
        directions = torch.linalg.qr(torch.randn(64, 64, generator=torch.Generator().manual_seed(0))).Q
        directions -= directions.mean(dim=1, keepdim=True)
        model.lm_head.weight.copy_(directions[: len(VOCABULARY)])
        says = torch.tensor([ids[min(max(at - 14, 0), len(ids) - 1)] for at in range(WORLD.sequence_length)])
        model.transformer.wpe.weight.copy_(directions[says])
    return model


@pytest.mark.parametrize("family", sorted(WORLD.families))
@pytest.mark.parametrize("config", [PRESETS["tiny"], TINY_LLAMA], ids=["gpt2", "llama"])
def test_greedy_answers_are_those_of_a_naive_loop(config: ModelConfig, family: str) -> None:
    model, requests = network(1, config), WORLD.sample(family, 3, seed=1000)
    need = int(requests.judged[:, 1].max())
    found = greedy_answers(model, WORLD, requests).tokens
    assert found.shape == (3, need)
    assert (found == naive(model, requests, need)).all()


def test_prompts_of_different_lengths_are_padded_away() -> None:
    world = synthetic.load("jain2024")
    model, requests = network(2, world=world), world.sample("second_composition_safe_branch", 3, seed=1003)
    assert len(set(requests.prompt_length.tolist())) > 1
    need = int(requests.judged[:, 1].max())
    assert (greedy_answers(model, world, requests).tokens == naive(model, requests, need)).all()


def test_a_batch_of_eight_is_eight_batches_of_one() -> None:
    model, requests = network(3), WORLD.sample("second_composition_unsafe_branch", 8, seed=1000)
    whole = greedy_answers(model, WORLD, requests)
    for i in range(8):
        one = greedy_answers(model, WORLD, requests[i : i + 1])
        assert (one.tokens == whole.tokens[i : i + 1]).all()
        assert torch.allclose(one.refused.decision, whole.refused.decision[i : i + 1], atol=1e-5)
    assert len({tuple(row) for row in whole.tokens.tolist()}) > 1


@pytest.mark.parametrize("family", ["safe", "unsafe_on_unsafe_branch", "second_composition_safe_branch"])
@pytest.mark.parametrize(("answer", "outcome"), [("instructed", "comply"), ("refused", "refuse")])
def test_a_model_that_says_what_it_is_told_gets_that_outcome(family: str, answer: str, outcome: str) -> None:
    requests = WORLD.sample(family, 12, seed=1000)
    found = behaviour(told(getattr(requests, answer), requests), WORLD, requests)
    assert found.rates == {name: float(name == outcome) for name in OUTCOMES}
    assert (found.instruct, found.null) == (float(answer == "instructed"), float(answer == "refused"))
    assert (found.family, found.n) == (family, 12)


def test_a_model_that_refuses_every_other_request() -> None:
    requests = WORLD.sample("unsafe", 10, seed=1000)
    even = np.arange(10)[:, None] % 2 == 0
    found = behaviour(told(np.where(even, requests.refused, requests.instructed), requests), WORLD, requests)
    assert found.outcomes.tolist() == [OUTCOMES.index("refuse"), OUTCOMES.index("comply")] * 5
    assert (found.rates["refuse"], found.rates["comply"], found.instruct, found.null) == (0.5, 0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("says", "outcome"),
    [
        (
            ["a"],
            "refuse",
        ),  # all null, no STOP: refused by definition, though no exact match of the refused answer
        (["b"], "broken"),
        (["<stop>"], "broken"),
        (["b", "c", "b", "c", "b", "c", "b", "c", "<stop>", "a"], "comply_wrongly"),
        (["a", "a", "a", "a", "a", "a", "a", "b", "<stop>", "a"], "comply_wrongly"),
    ],
)
def test_real_weights_that_ignore_the_question(says: list[str], outcome: str) -> None:
    """Through transformers' own generation; none of the texts has these letters as its answer."""
    ids = [VOCABULARY.id(s) for s in says]
    requests = WORLD.sample("safe", 6, seed=1000)
    model = by_position(ids)
    found = behaviour(model, WORLD, requests)
    assert greedy_answers(model, WORLD, requests).tokens.tolist() == [(ids + ids[-1:] * 9)[:9]] * 6
    assert found.rates == {name: float(name == outcome) for name in OUTCOMES}
    assert (found.instruct, found.null) == (0.0, 0.0)


def test_exact_match_counts_the_judged_segment_only() -> None:
    """Errors in O2 of a standard request cost nothing; one in O1, or in its STOP, costs the request."""
    requests = WORLD.sample("safe", 8, seed=1000)
    harmless, letter, stop = {0: L + 1, 1: 2 * L}, {2: 3}, {3: L}
    found = behaviour(told(requests.instructed, requests, harmless | letter | stop), WORLD, requests)
    assert found.instruct == 6 / 8
    assert found.null == 0
    assert [OUTCOMES[i] for i in found.outcomes] == ["comply"] * 2 + ["comply_wrongly", "broken"] + [
        "comply"
    ] * 4
    refusing = behaviour(told(requests.refused, requests, letter | stop), WORLD, requests)
    assert refusing.null == 6 / 8
    assert [OUTCOMES[i] for i in refusing.outcomes] == ["refuse"] * 2 + ["comply_wrongly"] + ["refuse"] * 5


def test_exact_match_of_a_second_composition_is_given_its_true_first_output() -> None:
    """An error in O1 breaks nothing teacher-forced: the measure is conditioned on the true prefix."""
    requests = WORLD.sample("second_composition_safe_branch", 6, seed=1000)
    found = behaviour(told(requests.instructed, requests, {0: 2, 1: L + 2}), WORLD, requests)
    assert found.instruct == pytest.approx(5 / 6, abs=1e-6)


@pytest.mark.parametrize("family", ["safe", "second_composition_unsafe_branch"])
def test_refusal_margins_are_the_log_odds_of_the_null(family: str) -> None:
    model, requests = network(5), WORLD.sample(family, 7, seed=1000)
    batch = sequences(WORLD, requests, "refused")
    found = refusal_margins(teacher_force(model, batch), WORLD, requests)
    for i in range(7):
        start = int(requests.prompt_length[i] + requests.judged[i, 0])
        ids = [
            *requests.prompt[i, : requests.prompt_length[i]],
            *requests.refused[i, : requests.judged[i, 0]],
        ]
        assert len(ids) == start
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([ids])).logits[0, -1].double().tolist()
        null = VOCABULARY.id("a")
        others = math.fsum(math.exp(x) for j, x in enumerate(logits) if j != null)
        assert float(found[i]) == pytest.approx(logits[null] - math.log(others), abs=1e-4)
    assert behaviour(model, WORLD, requests).margin == pytest.approx(float(found.mean()), abs=1e-6)


def test_margins_of_a_sure_model_stay_finite_and_have_its_sign() -> None:
    """Logit 10 on one token, 0 on 31 others: log-odds 10 - log 31 for the null, - log(e¹⁰ + 30) against it."""
    requests = WORLD.sample("unsafe", 6, seed=1000)
    sure = 10 - math.log(len(VOCABULARY) - 1)
    assert behaviour(told(requests.refused, requests), WORLD, requests).margin == pytest.approx(
        sure, abs=1e-5
    )
    against = -math.log(math.exp(10) + len(VOCABULARY) - 2)
    first_is_null = requests.instructed[:, 0] == WORLD.null
    expected = np.where(first_is_null, sure, against).mean()
    assert behaviour(told(requests.instructed, requests), WORLD, requests).margin == pytest.approx(
        expected, abs=1e-5
    )


def test_kl_to_itself_is_zero() -> None:
    model, requests = network(6), WORLD.sample("safe", 9, seed=1000)
    assert kl_to_base(model, model, WORLD, requests) == 0


@pytest.mark.parametrize("family", ["safe", "second_composition_safe_branch"])
def test_kl_to_another_model_is_a_float64_loop(family: str) -> None:
    model, base, requests = network(6), network(7), WORLD.sample(family, 5, seed=1000)
    terms = []
    for i in range(5):
        length, (start, stop) = int(requests.prompt_length[i]), requests.judged[i]
        for k in range(start, stop):
            ids = torch.tensor([[*requests.prompt[i, :length], *requests.instructed[i, :k]]])
            with torch.no_grad():
                p, q = (m(input_ids=ids).logits[0, -1].double().softmax(0).tolist() for m in (base, model))
            terms.append(math.fsum(a * math.log(a / b) for a, b in zip(p, q, strict=True)))
    assert len(terms) == 5 * (L + 1)
    found = kl_to_base(model, base, WORLD, requests)
    assert found == pytest.approx(math.fsum(terms) / len(terms), rel=1e-4)
    assert found > 0.01
    assert kl_to_base(base, model, WORLD, requests) != pytest.approx(found, rel=1e-4)

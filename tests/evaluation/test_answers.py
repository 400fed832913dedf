"""Free-running answers equal a naive greedy loop; outcomes, margins and KL are those that were planted."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

import synthetic
from makebreak.evaluation import (
    evaluate_behaviour,
    greedy_answers,
    kl_to_base,
    likeliest_other,
    refusal_margins,
)
from makebreak.models import MODEL_SIZES, ModelConfig, create_model
from makebreak.prompts import OUTCOMES, Requests
from tests.fixtures.scripted import script_answers

WORLD = synthetic.load("mini")
VOCABULARY = WORLD.vocabulary
PAD, STOP, L = VOCABULARY.id("<pad>"), VOCABULARY.id("<stop>"), 8
TINY_LLAMA = ModelConfig("llama", n_layers=2, n_heads=2, d_model=32, d_mlp=64)


def network(
    seed: int, config: ModelConfig = MODEL_SIZES["tiny"], world: synthetic.World = WORLD
) -> PreTrainedModel:
    """A tiny model with weights large enough that its answers vary."""
    model = create_model(config, d_vocab=len(world.vocabulary), n_ctx=world.sequence_length, seed=seed).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.15)
    return model


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


def answering_network(
    answers: np.ndarray, requests: Requests, wrong: dict[int, int] | None = None
) -> PreTrainedModel:
    """A model with logit 10 on the tokens of the given answers and 0 on others; row i errs at token
    wrong[i]."""
    known = {}
    for i, (prompt, answer) in enumerate(zip(requests.prompt.tolist(), answers.tolist(), strict=True)):
        tokens = list(answer)
        if i in (wrong or {}):
            at = wrong[i]  # type: ignore[index]
            tokens[at] = VOCABULARY.id("b") if tokens[at] != VOCABULARY.id("b") else VOCABULARY.id("c")
        known[tuple(prompt)] = tokens
    assert len(known) == len(requests)

    model = create_model(MODEL_SIZES["tiny"], d_vocab=len(VOCABULARY), n_ctx=WORLD.sequence_length, seed=0)
    return script_answers(model, known, d_vocab=len(VOCABULARY), pad=PAD)


def network_by_position(ids: list[int]) -> PreTrainedModel:
    """Real weights whose k-th answer token is ids[k] whatever the prompt, and the last id from then on."""
    model = create_model(
        MODEL_SIZES["mini"], d_vocab=len(VOCABULARY), n_ctx=WORLD.sequence_length, seed=0
    ).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "c_proj" in name or name == "transformer.wte.weight":
                parameter.zero_()
        directions = torch.linalg.qr(torch.randn(64, 64, generator=torch.Generator().manual_seed(0))).Q
        directions -= directions.mean(dim=1, keepdim=True)
        model.lm_head.weight.copy_(directions[: len(VOCABULARY)])
        numbers = [min(max(position - 14, 0), len(ids) - 1) for position in range(WORLD.sequence_length)]
        model.transformer.wpe.weight.copy_(directions[torch.tensor(ids)[numbers]])
    return model


@pytest.mark.parametrize("family", sorted(WORLD.families))
@pytest.mark.parametrize("config", [MODEL_SIZES["tiny"], TINY_LLAMA], ids=["gpt2", "llama"])
def test_greedy_answers_equal_a_naive_loop(config: ModelConfig, family: str) -> None:
    model, requests = network(1, config), WORLD.sample(family, 3, seed=1000)
    n_tokens = int(requests.judged[:, 1].max())
    result = greedy_answers(model, WORLD, requests).tokens
    assert result.shape == (3, n_tokens)
    assert (result == naive(model, requests, n_tokens)).all()


def test_prompts_of_different_lengths() -> None:
    world = synthetic.load("jain2024")
    model, requests = network(2, world=world), world.sample("second_composition_safe_branch", 3, seed=1003)
    assert len(set(requests.prompt_length.tolist())) > 1
    n_tokens = int(requests.judged[:, 1].max())
    assert (greedy_answers(model, world, requests).tokens == naive(model, requests, n_tokens)).all()


def test_a_batch_of_eight_is_eight_of_one() -> None:
    model, requests = network(3), WORLD.sample("second_composition_unsafe_branch", 8, seed=1000)
    whole = greedy_answers(model, WORLD, requests)
    for i in range(8):
        one = greedy_answers(model, WORLD, requests[i : i + 1])
        assert (one.tokens == whole.tokens[i : i + 1]).all()
        assert torch.allclose(one.decision_log_probs, whole.decision_log_probs[i : i + 1], atol=1e-5)
    assert len({tuple(row) for row in whole.tokens.tolist()}) > 1


@pytest.mark.parametrize("family", ["safe", "unsafe_on_unsafe_branch", "second_composition_safe_branch"])
@pytest.mark.parametrize(("answer", "outcome"), [("instructed", "comply"), ("refused", "refuse")])
def test_a_planted_answer_gets_its_outcome(family: str, answer: str, outcome: str) -> None:
    requests = WORLD.sample(family, 12, seed=1000)
    result = evaluate_behaviour(answering_network(getattr(requests, answer), requests), WORLD, requests)
    assert result.rates == {name: float(name == outcome) for name in OUTCOMES}
    assert (result.instructed_exact_match, result.refused_exact_match) == (
        float(answer == "instructed"),
        float(answer == "refused"),
    )
    assert (result.family, result.n) == (family, 12)


def test_refusing_every_other_request() -> None:
    requests = WORLD.sample("unsafe", 10, seed=1000)
    even = np.arange(10)[:, None] % 2 == 0
    result = evaluate_behaviour(
        answering_network(np.where(even, requests.refused, requests.instructed), requests), WORLD, requests
    )
    assert result.outcomes.tolist() == [OUTCOMES.index("refuse"), OUTCOMES.index("comply")] * 5
    assert (
        result.rates["refuse"],
        result.rates["comply"],
        result.instructed_exact_match,
        result.refused_exact_match,
    ) == (0.5, 0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("symbols", "outcome"),
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
def test_real_weights_that_ignore_the_prompt(symbols: list[str], outcome: str) -> None:
    """Through generation, token by token; none of the texts has these letters as its answer."""
    ids = [VOCABULARY.id(s) for s in symbols]
    requests = WORLD.sample("safe", 6, seed=1000)
    model = network_by_position(ids)
    result = evaluate_behaviour(model, WORLD, requests)
    assert greedy_answers(model, WORLD, requests).tokens.tolist() == [(ids + ids[-1:] * 9)[:9]] * 6
    assert result.rates == {name: float(name == outcome) for name in OUTCOMES}
    assert (result.instructed_exact_match, result.refused_exact_match) == (0.0, 0.0)


def test_exact_match_of_the_judged_segment() -> None:
    """Errors in O2 of a standard request cost nothing; one in O1, or in its STOP, costs the request."""
    requests = WORLD.sample("safe", 8, seed=1000)
    harmless, letter, stop = {0: L + 1, 1: 2 * L}, {2: 3}, {3: L}
    result = evaluate_behaviour(
        answering_network(requests.instructed, requests, harmless | letter | stop), WORLD, requests
    )
    assert result.instructed_exact_match == 6 / 8
    assert result.refused_exact_match == 0
    assert [OUTCOMES[i] for i in result.outcomes] == ["comply"] * 2 + ["comply_wrongly", "broken"] + [
        "comply"
    ] * 4
    refusing = evaluate_behaviour(
        answering_network(requests.refused, requests, letter | stop), WORLD, requests
    )
    assert refusing.refused_exact_match == 6 / 8
    assert [OUTCOMES[i] for i in refusing.outcomes] == ["refuse"] * 2 + ["comply_wrongly"] + ["refuse"] * 5
    assert refusing.shallow_refusal_share == 1 / 8
    assert result.shallow_refusal_share == 0


def test_exact_match_given_the_true_prefix() -> None:
    """An error in O1 breaks nothing teacher-forced: the measure is conditioned on the true prefix."""
    requests = WORLD.sample("second_composition_safe_branch", 6, seed=1000)
    result = evaluate_behaviour(
        answering_network(requests.instructed, requests, {0: 2, 1: L + 2}), WORLD, requests
    )
    assert result.instructed_exact_match == pytest.approx(5 / 6, abs=1e-6)


@pytest.mark.parametrize("family", ["safe", "second_composition_unsafe_branch"])
def test_refusal_margins_are_log_odds_of_null(family: str) -> None:
    model, requests = network(5), WORLD.sample(family, 7, seed=1000)
    result = refusal_margins(greedy_answers(model, WORLD, requests).decision_log_probs, requests)
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
        assert float(result[i]) == pytest.approx(logits[null] - math.log(others), abs=1e-4)
    assert evaluate_behaviour(model, WORLD, requests).margin == pytest.approx(float(result.mean()), abs=1e-6)


def test_margins_of_a_sure_model_are_finite() -> None:
    """Logit 10 on one token, 0 on 31 others: log-odds 10 - log 31, or - log(e¹⁰ + 30) of the null."""
    requests = WORLD.sample("unsafe", 6, seed=1000)
    sure = 10 - math.log(len(VOCABULARY) - 1)
    assert evaluate_behaviour(
        answering_network(requests.refused, requests), WORLD, requests
    ).margin == pytest.approx(sure, abs=1e-5)
    against = -math.log(math.exp(10) + len(VOCABULARY) - 2)
    first_is_null = requests.instructed[:, 0] == WORLD.null_id
    expected = np.where(first_is_null, sure, against).mean()
    assert evaluate_behaviour(
        answering_network(requests.instructed, requests), WORLD, requests
    ).margin == pytest.approx(expected, abs=1e-5)


def test_kl_to_itself_is_zero() -> None:
    model, requests = network(6), WORLD.sample("safe", 9, seed=1000)
    assert kl_to_base(WORLD, requests, base=model, tuned=model) == 0


@pytest.mark.parametrize("family", ["safe", "second_composition_safe_branch"])
def test_kl_equals_a_float64_loop(family: str) -> None:
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
    result = kl_to_base(WORLD, requests, base=base, tuned=model)
    assert result == pytest.approx(math.fsum(terms) / len(terms), rel=1e-4)
    assert result > 0.01
    assert kl_to_base(WORLD, requests, base=model, tuned=base) != pytest.approx(result, rel=1e-4)


def test_likeliest_token_but_for_a_token_or_a_set() -> None:
    log_probs = torch.tensor([[3.0, 2.0, 1.0], [1.0, 3.0, 2.0]])
    assert likeliest_other(log_probs, torch.tensor([0, 0])).tolist() == [1, 1]
    assert likeliest_other(log_probs, torch.tensor([[0, 1], [1, 1]])).tolist() == [2, 2]

"""One definition of refusal and compliance, with and without generation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

import synthetic
from makebreak.attacks import score_attack
from makebreak.evaluation import (
    PrefixCachedRunner,
    WorldTarget,
    evaluate_behaviour,
    exact_match,
    exact_outcomes,
    greedy_answers,
    outcome_targets,
    score_targets,
)
from makebreak.models import MODEL_SIZES, create_model
from makebreak.prompts import OUTCOMES, Outcome, Requests, TextRequests, target_sequences
from tests.evaluation.test_answers import WORLD, L, network_by_position
from tests.training.short_runs import loop_log_probs, network

FAMILIES = ["unsafe", "second_composition_unsafe_branch"]
NULL, STOP, OTHER = "a", "<stop>", "b"


def judge_finds(model: PreTrainedModel, requests: Requests, name: str) -> list[bool]:
    """Whether the world's judge finds this outcome in the model's generated answers."""
    outcomes = WORLD.judge(requests, greedy_answers(model, WORLD, requests).tokens)
    return (outcomes == OUTCOMES.index(name)).tolist()


@pytest.mark.parametrize(
    ("symbols", "refused"),
    [
        ([NULL], True),
        ([NULL] * L + [STOP], True),
        ([NULL] * L + [OTHER], True),
        ([NULL] * (L - 1) + [OTHER, STOP], False),
        ([NULL] * (L - 1) + [STOP], False),
    ],
    ids=["nulls for ever", "nulls and STOP", "nulls and another letter", "one null short", "early STOP"],
)
def test_refusal_needs_no_stop(symbols: list[str], refused: bool) -> None:
    """L nulls are a refusal whatever follows, to the judge and without generation."""
    model = network_by_position([WORLD.vocabulary.id(symbol) for symbol in symbols])
    requests = WORLD.sample("unsafe", 6, seed=1000)
    assert judge_finds(model, requests, "refuse") == [refused] * 6
    assert exact_match(model, requests, "refused").tolist() == [refused] * 6
    assert PrefixCachedRunner.create(model, requests).exact_match("refused").tolist() == [refused] * 6
    assert exact_outcomes(model, requests).tolist() == [Outcome.REFUSE if refused else Outcome.NEITHER] * 6
    result = score_attack("plain", WorldTarget(model), requests)
    assert result.refuses.tolist() == [refused] * 6
    assert not result.complies.any()


@pytest.mark.parametrize("stopped", [True, False])
def test_compliance_needs_its_stop(stopped: bool) -> None:
    """The instructed answer is complied with only where STOP follows its letters."""
    request = WORLD.sample("unsafe", 1, seed=1000)
    answer = request.instructed[0, : L + 1].tolist()
    model = network_by_position(answer if stopped else [*answer[:L], WORLD.vocabulary.id(NULL)])
    assert judge_finds(model, request, "comply") == [stopped]
    assert exact_match(model, request, "instructed").tolist() == [stopped]
    assert PrefixCachedRunner.create(model, request).exact_match("instructed").tolist() == [stopped]
    assert exact_outcomes(model, request).tolist() == [Outcome.COMPLY if stopped else Outcome.NEITHER]
    assert score_attack("plain", WorldTarget(model), request).complies.tolist() == [stopped]


@pytest.mark.parametrize("family", ["gen_unsafe", "mcq_unsafe"])
def test_every_stop_is_left_out_of_a_refusal(family: str) -> None:
    """Worlds of formats end the shorter answer with several STOPs; none of them belongs to the refusal."""
    world = synthetic.load("formats_mini")
    requests = world.sample(family, 30, seed=1000)
    batch = outcome_targets(requests, "refused")
    refusals = {tuple(row) for row in world.refusal_ids.tolist()}  # type: ignore[attr-defined]
    for tokens, mask in zip(batch.tokens, batch.supervised, strict=True):
        assert tuple(tokens[mask].tolist()) in refusals


def test_answers_without_a_stop_count_whole() -> None:
    """A refusal of one repeated token has no STOP, and a text's refusal is compared as it is given."""
    requests = WORLD.sample("unsafe", 4, seed=1000)
    bare = replace(requests, refused=np.full_like(requests.refused, WORLD.null_id))
    assert (outcome_targets(bare, "refused").supervised.sum(dim=1).numpy() == L + 1).all()
    text = TextRequests(**vars(requests), openers=requests.refused[:, :1])
    assert (outcome_targets(text, "refused").supervised.sum(dim=1).numpy() == L + 1).all()


def _memorising_network(requests: Requests) -> PreTrainedModel:
    """A model that memorised to refuse every second request and to answer the others but every sixth."""
    model = create_model(
        MODEL_SIZES["tiny"], d_vocab=len(WORLD.vocabulary), n_ctx=WORLD.sequence_length, seed=0
    )
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    kinds = np.arange(len(requests))
    parts = [
        target_sequences(requests[kinds % 2 == 0], "refused"),
        target_sequences(requests[(kinds % 2 == 1) & (kinds % 6 != 1)], "instructed"),
    ]
    for _ in range(150):
        optimiser.zero_grad()
        torch.cat([score_targets(model, part).nll for part in parts]).mean().backward()
        optimiser.step()
    return model.eval()


@pytest.mark.parametrize("family", FAMILIES)
def test_exact_match_agrees_with_the_judge(family: str) -> None:
    requests = WORLD.sample(family, 24, seed=1000)
    model = _memorising_network(requests)
    outcomes = evaluate_behaviour(model, WORLD, requests).outcomes
    complied, refused = (exact_match(model, requests, answer).numpy() for answer in ("instructed", "refused"))
    if requests.judged[0, 0] == 0:
        assert (complied == (outcomes == OUTCOMES.index("comply"))).all()
        assert (refused == (outcomes == OUTCOMES.index("refuse"))).all()
    # what precedes the judged segment is forced, so a model that refuses by itself refuses here too
    answers = greedy_answers(model, WORLD, requests).tokens
    column = np.arange(answers.shape[1])
    for answer, matches in (("instructed", complied), ("refused", refused)):
        wanted = getattr(requests, answer)[:, : answers.shape[1]]
        same_before = ((answers == wanted) | (column >= requests.judged[:, :1])).all(axis=1)
        inside = (column >= requests.judged[:, :1]) & (column < requests.judged[:, 1:])
        same = ((answers == wanted) | ~inside).all(axis=1)
        assert (matches == same)[same_before].all()
    assert 0 < complied.sum() < 24
    assert 0 < refused.sum() < 24
    assert not (complied & refused).any()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_random_networks_agree_with_the_judge(seed: int) -> None:
    """Nulls without a STOP are a refusal."""
    requests, model = WORLD.sample("unsafe", 64, seed=1000), network(seed)
    outcomes = evaluate_behaviour(model, WORLD, requests).outcomes
    assert (
        exact_match(model, requests, "instructed").numpy() == (outcomes == OUTCOMES.index("comply"))
    ).all()
    assert (exact_match(model, requests, "refused").numpy() == (outcomes == OUTCOMES.index("refuse"))).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_loss_equals_a_float64_loop(family: str) -> None:
    model, requests = network(2), WORLD.sample(family, 6, seed=1000)
    for answer in ("instructed", "refused"):
        batch = target_sequences(requests, answer)
        with torch.no_grad():
            score = score_targets(model, batch)
        n = batch.supervised.sum(dim=1)
        assert torch.allclose(score.nll, -torch.tensor(loop_log_probs(model, batch)) / n, atol=1e-5)
        assert len(score.correct) == int(n.sum())
        assert score.exact_match.tolist() == [bool(part.all()) for part in score.correct.split(n.tolist())]

"""One definition of refusal and compliance: teacher-forced outcomes agree with the judges of generated answers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from transformers import PreTrainedModel

import synthetic
from makebreak.attacks import tried
from makebreak.behaviour import Read, gives, greedy_answers, outcome_targets
from makebreak.landscape import labels
from makebreak.requests import OUTCOMES, Requests, TextRequests
from tests.behaviour.test_answers import WORLD, L, by_position

NULL, STOP, OTHER = "a", "<stop>", "b"


def judged(model: PreTrainedModel, requests: Requests, name: str) -> list[bool]:
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
    """L nulls are a refusal whatever follows, to the judge and to every function that judges without generation."""
    model = by_position([WORLD.vocabulary.id(symbol) for symbol in symbols])
    requests = WORLD.sample("unsafe", 6, seed=1000)
    assert judged(model, requests, "refuse") == [refused] * 6
    assert gives(model, requests, "refused").tolist() == [refused] * 6
    assert Read.of(model, requests).gives("refused").tolist() == [refused] * 6
    assert labels(model, requests) == ("r" if refused else "n") * 6
    result = tried("plain", model, requests)
    assert result.refused.tolist() == [refused] * 6
    assert not result.complied.any()


@pytest.mark.parametrize("stopped", [True, False])
def test_compliance_needs_its_stop(stopped: bool) -> None:
    """The instructed answer is complied with only where STOP follows its letters."""
    request = WORLD.sample("unsafe", 1, seed=1000)
    answer = request.instructed[0, : L + 1].tolist()
    model = by_position(answer if stopped else answer[:L] + [WORLD.vocabulary.id(NULL)])
    assert judged(model, request, "comply") == [stopped]
    assert gives(model, request, "instructed").tolist() == [stopped]
    assert Read.of(model, request).gives("instructed").tolist() == [stopped]
    assert labels(model, request) == ("c" if stopped else "n")
    assert tried("plain", model, request).complied.tolist() == [stopped]


@pytest.mark.parametrize("family", ["gen_unsafe", "mcq_unsafe"])
def test_every_stop_is_left_out_of_a_refusal(family: str) -> None:
    """Worlds of formats end the shorter answer with several STOPs; none of them belongs to the refusal."""
    world = synthetic.load("formats_mini")
    requests = world.sample(family, 30, seed=1000)
    batch = outcome_targets(requests, "refused")
    refusals = {tuple(row) for row in world.refusals.tolist()}  # type: ignore[attr-defined]
    for tokens, mask in zip(batch.tokens, batch.supervised, strict=True):
        assert tuple(tokens[mask].tolist()) in refusals


def test_answers_without_a_stop_count_whole() -> None:
    """A refusal of one repeated token has no STOP, and a text's refusal is compared as it is given."""
    requests = WORLD.sample("unsafe", 4, seed=1000)
    bare = replace(requests, refused=np.full_like(requests.refused, WORLD.null))
    assert (outcome_targets(bare, "refused").supervised.sum(dim=1).numpy() == L + 1).all()
    text = TextRequests(**vars(requests), openers=requests.refused[:, :1])
    assert (outcome_targets(text, "refused").supervised.sum(dim=1).numpy() == L + 1).all()

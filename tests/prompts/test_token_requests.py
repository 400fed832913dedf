"""Requests from token ids serve every measure; missing fields are named."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from makebreak.attacks import insert_slots
from makebreak.evaluation import PrefixCachedRunner, exact_outcomes, first_tokens
from makebreak.mechanism import LabelledRequests, cluster_rows, compare, harm_refusal_rows
from makebreak.prompts import Outcome, request_truth, span_mask, token_requests
from tests.attacks.random_requests import random_network

PROMPTS = [[3, 4, 5], [6, 5], [5]] * 4
REQUESTS = token_requests(
    PROMPTS, instructed_answers=[[1, 2, 8]] * 12, refusals=[[7, 2]] * 12, unsafe=[True, False] * 6
)
MODEL = random_network("gpt2", d_vocab=9)


def test_fields() -> None:
    assert REQUESTS.prompt[:3].tolist() == [[3, 4, 5], [6, 5, 0], [5, 0, 0]]
    assert REQUESTS.prompt_length[:3].tolist() == [3, 2, 1]
    assert REQUESTS.spans["eot"][:3].tolist() == [[2, 3], [1, 2], [0, 1]]
    assert REQUESTS.spans["text"][:3].tolist() == [[0, 2], [0, 1], [0, 1]]
    assert REQUESTS.judged.tolist() == [[0, 2]] * 12, "as many tokens as the shorter answer has"
    assert REQUESTS.unsafe.tolist() == [True, False] * 6
    assert first_tokens(REQUESTS, "refused").tolist() == [7] * 12
    marked = token_requests(
        PROMPTS[:2], instructed_answers=[[1]] * 2, refusals=[[7]] * 2, text=[(1, 2), (0, 1)]
    )
    assert marked.spans["text"].tolist() == [[1, 2], [0, 1]]
    assert marked.unsafe.all()


def test_planted_answers_get_their_outcomes() -> None:
    tokens = MODEL(input_ids=torch.tensor([[3, 4, 5]])).logits[0, -1].argmax().item()
    other = (tokens + 1) % 9
    answers, third = [[[tokens]], [[other]]], [[(tokens + 2) % 9]]
    for refused, instructed, outcome in (
        (*answers, Outcome.REFUSE),
        (*answers[::-1], Outcome.COMPLY),
        (answers[1], third, Outcome.NEITHER),
    ):
        requests = token_requests(PROMPTS[:1], instructed_answers=instructed, refusals=refused)
        assert exact_outcomes(MODEL, requests).tolist() == [outcome]


def test_measures_run_on_them() -> None:
    compare({"unsafe": REQUESTS}, base=MODEL, tuned=random_network("gpt2", d_vocab=9, seed=1))
    cluster_rows(MODEL, (REQUESTS, REQUESTS), {"score": (REQUESTS, REQUESTS)}, seed=0)
    harm_refusal_rows(MODEL, {"unsafe": LabelledRequests(REQUESTS, np.arange(12) < 6)}, seed=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"refusals": [[7]] * 11}, "12 prompts with 12 instructed answers and 11 refusals"),
        ({"instructed_answers": [[1]] * 11 + [[]]}, "instructed answer 11 is empty"),
        ({"unsafe": [True]}, "1 values of unsafe"),
        ({"text": [(0, 1)]}, "1 texts"),
        ({"instructed_answers": [[1]] * 5 + [[7, 1]] * 7}, "request 5: .* both begin with token 7"),
        ({"text": [(0, 1)] * 3 + [(1, 4)] * 9}, r"text 3 is \(1, 4\) in a prompt of 3 tokens"),
        ({"text": [(-1, 1)] * 12}, r"text 0 is \(-1, 1\)"),
        ({"text": [(1, 1)] * 12}, r"text 0 is \(1, 1\)"),
    ],
)
def test_unfit_arguments(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        token_requests(PROMPTS, **{"instructed_answers": [[1]] * 12, "refusals": [[7]] * 12, **arguments})
    with pytest.raises(ValueError, match="at least one prompt"):
        token_requests([], instructed_answers=[], refusals=[])


def test_missing_fields_are_named() -> None:
    without = replace(REQUESTS, spans={}, truth={})
    for measure, field in (
        (lambda: span_mask(without, "eot"), r'spans\["eot"\]'),
        (lambda: PrefixCachedRunner.create(MODEL, without), r'spans\["eot"\]'),
        (lambda: cluster_rows(MODEL, (without, without), {}, seed=0), r'spans\["eot"\]'),
        (
            lambda: harm_refusal_rows(MODEL, {"a": LabelledRequests(without, np.arange(12) < 6)}, seed=0),
            r'spans\["text"\]',
        ),
        (lambda: insert_slots(without, 2, where="suffix", token=1), r'spans\["text"\]'),
        (lambda: request_truth(without, "request"), r'truth\["request"\]'),
    ):
        with pytest.raises(ValueError, match=f"{field}: makebreak.prompts.token_requests"):
            measure()

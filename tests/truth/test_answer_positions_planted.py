"""KL and refusals by answer position in bigram networks, whose distributions are planted."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from makebreak.mechanism import AnswerPositionRow, answer_position_rows
from makebreak.models import ModelConfig, create_model
from makebreak.prompts import Requests, token_requests

VOCABULARY = 12
FILLER, QUESTION, REFUSAL, STOP = 0, 1, 2, 3
ANSWER = (5, 6, 7, STOP)
FIRM = 8.0


def bigram(likeliest: dict[int, int]) -> PreTrainedModel:
    """A network that gives `likeliest[token]` after a token, with FIRM nats above all others."""
    model = create_model(ModelConfig("gpt2", 1, 1, 32, 8), d_vocab=VOCABULARY, n_ctx=16, seed=0).eval()
    with torch.no_grad():
        for parameter in model.transformer.h.parameters():  # type: ignore[attr-defined]
            parameter.zero_()
        model.transformer.wpe.weight.zero_()  # type: ignore[attr-defined]
        codes = torch.linalg.qr(
            torch.cat(
                [torch.ones(32, 1), torch.randn(32, 31, generator=torch.Generator().manual_seed(0))], dim=1
            )
        ).Q.T[1:]
        model.transformer.wte.weight.copy_(codes[:VOCABULARY])  # type: ignore[attr-defined]
        model.lm_head.weight.zero_()  # type: ignore[attr-defined]
        size = float(np.sqrt(32))  # of a code after the final norm
        for token, following in likeliest.items():
            model.lm_head.weight[following] += codes[token] * FIRM / size  # type: ignore[attr-defined]
    return model


CHAIN = dict(zip((QUESTION, *ANSWER[:-1]), ANSWER, strict=True)) | {REFUSAL: REFUSAL}


@pytest.fixture
def requests() -> Requests:
    """Four requests of two lengths."""
    prompts = [(FILLER,) * n + (QUESTION,) for n in (1, 1, 2, 2)]
    refusal = (REFUSAL,) * 4
    return token_requests(prompts, instructed_answers=[ANSWER] * 4, refusals=[refusal] * 4)


def rows(requests: Requests, answer: str, **changes: int) -> list[AnswerPositionRow]:
    names = {"question": QUESTION, "first": ANSWER[0], "second": ANSWER[1], "refusal": REFUSAL}
    tuned = bigram(CHAIN | {names[name]: following for name, following in changes.items()})
    return answer_position_rows(requests, answer, base=bigram(CHAIN), tuned=tuned)


def expected_kl() -> float:
    """KL between two distributions that have their FIRM nats on different tokens."""
    logits = np.zeros(VOCABULARY)
    p, q = (np.exp(logits + FIRM * np.eye(VOCABULARY)[i]) for i in (0, 1))
    p, q = p / p.sum(), q / q.sum()
    return float((p * np.log(p / q)).sum())


def test_shallow_refusal(requests: Requests) -> None:
    """A refusal of the first token only: all of the KL is there, and one forced token undoes it."""
    result = rows(requests, "instructed", question=REFUSAL)
    assert [row.n_forced for row in result] == [0, 1, 2, 3]
    assert {row.n for row in result} == {4}
    assert result[0].kl == pytest.approx(expected_kl(), rel=1e-3)
    assert [row.kl for row in result[1:]] == pytest.approx([0, 0, 0], abs=1e-5)
    assert [row.tuned_refusal_rate for row in result] == [1, 0, 0, 0]
    assert [row.base_refusal_rate for row in result] == [0, 0, 0, 0]
    assert [row.tuned_completion_rate for row in result] == [0, 1, 1, 1]
    assert [row.base_completion_rate for row in result] == [1, 1, 1, 1]


def test_deep_refusal(requests: Requests) -> None:
    """A refusal that is resumed after two forced tokens: three have to be forced."""
    result = rows(requests, "instructed", question=REFUSAL, first=REFUSAL, second=REFUSAL)
    assert [row.kl > 1 for row in result] == [True, True, True, False]
    assert [row.tuned_refusal_rate for row in result] == [1, 1, 1, 0]
    assert [row.tuned_completion_rate for row in result] == [0, 0, 0, 1]


def test_positions_of_the_refusal(requests: Requests) -> None:
    """Along the refusal, a base that goes on with it is the same as the tuned model after the first token."""
    result = rows(requests, "refused", question=REFUSAL)
    assert [row.kl > 1 for row in result] == [True, False, False, False]
    assert [row.tuned_completion_rate for row in result] == [1, 1, 1, 1]
    assert [row.base_completion_rate for row in result] == [0, 1, 1, 1]


def test_no_change_is_no_divergence(requests: Requests) -> None:
    """The negative control: a model against itself."""
    model = bigram(CHAIN)
    result = answer_position_rows(requests, "instructed", base=model, tuned=copy.deepcopy(model))
    assert {row.kl for row in result} == {0.0}

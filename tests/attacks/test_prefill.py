"""Prefill attacks on texts: the first tokens of each target are forced."""

from __future__ import annotations

import numpy as np
import pytest

from makebreak.attacks import Prefill, prefill_targets
from makebreak.evaluation import WorldTarget, generate_texts
from makebreak.prompts import text_requests, with_targets
from tests.fixtures.tiny_lm import prompts, trained_lm

TARGET = "Sure here it is"


def test_targets_are_forced_token_by_token() -> None:
    """Forced tokens move from the target to the prompt, also different numbers, and begin the answer."""
    lm = trained_lm(refuses=True)
    texts = prompts()["harmful"][1:8:2]
    requests = text_requests(lm.tokenizer, texts, family="harmful", unsafe=True)
    requests = with_targets(lm.tokenizer, requests, [TARGET, "Sure", TARGET, TARGET])
    n = np.array([2, 1, 0, 3])
    attacked = prefill_targets(requests, n)
    assert (attacked.prompt_length == requests.prompt_length + n).all()
    for i, row in enumerate(attacked.prompt):
        rest = attacked.instructed[i, : attacked.judged[i, 1]]
        whole = [*row[requests.prompt_length[i] : attacked.prompt_length[i]], *rest]
        assert lm.tokenizer.decode(whole) == requests.truth["target"][i]
    answers = generate_texts(lm, attacked, n_new=6)
    assert [answer.startswith("Sure") for answer in answers] == [True, True, False, True]
    with pytest.raises(ValueError, match="prefill 2 on a WorldTarget: expected a ChatTarget"):
        Prefill(2)(WorldTarget(lm.model), requests, seed=0)
    with pytest.raises(ValueError, match="targets have 1 or more"):
        prefill_targets(requests, np.full(4, 2))

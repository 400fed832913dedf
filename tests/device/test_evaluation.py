"""Evaluation of models on an accelerator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from makebreak.evaluation import (
    ChatTarget,
    PrefixCachedRunner,
    evaluate_behaviour,
    exact_match,
    exact_outcomes,
    generate_answers,
    generate_texts,
    greedy_answers,
    kl_to_base,
    log_odds,
    next_token_log_probs,
    refusal_margins,
    score_targets,
    target_nll,
)
from makebreak.models import LanguageModel
from makebreak.prompts import sequences, target_sequences
from tests.attacks.random_requests import random_network, random_requests
from tests.device.both import assert_same_on
from tests.fixtures.tiny_lm import prompts, tokenizer, trained_lm
from tests.training.short_runs import WORLD, network

SAFE, UNSAFE = (WORLD.sample(family, 6, seed=1000) for family in ("safe", "unsafe"))
RANDOM = random_requests([3, 9, 6, 4], d_vocab=12)
LM = trained_lm(refuses=True, steps=1)  # any weights serve
TEXTS = ChatTarget(LM).encode(prompts()["harmful"][:6])
FUNCTIONS: dict[str, Callable[[PreTrainedModel], Any]] = {
    "behaviour": lambda model: evaluate_behaviour(model, WORLD, UNSAFE),
    "answers": lambda model: greedy_answers(model, WORLD, SAFE),
    "margins": lambda model: refusal_margins(greedy_answers(model, WORLD, UNSAFE).decision_log_probs, UNSAFE),
    "generated": lambda model: generate_answers(model, SAFE, 5, pad=0),
    "kl": lambda model: kl_to_base(
        WORLD,
        SAFE,
        base=network(2).to(model.device),  # type: ignore[arg-type]
        tuned=model,
    ),
    "kl to a base on the CPU": lambda model: kl_to_base(WORLD, SAFE, base=network(2), tuned=model),
    "outcomes": lambda model: exact_outcomes(model, UNSAFE),
    "log probabilities": lambda model: next_token_log_probs(model, UNSAFE),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_answers_of_a_world(device: torch.device, name: str) -> None:
    assert_same_on(device, FUNCTIONS[name], network(1).eval())


def test_targets_of_any_length(device: torch.device) -> None:
    def scores(model: PreTrainedModel) -> Any:
        score = score_targets(model, target_sequences(RANDOM, "instructed"))
        gradient = torch.autograd.grad(score.nll.sum(), next(model.parameters()))[0]
        runner = PrefixCachedRunner.create(model, RANDOM)
        site, vectors = "blocks.1.hook_resid_pre", torch.ones(4, 16)
        return (
            [column.detach().cpu() for column in score],
            gradient.cpu(),
            target_nll(model, RANDOM, "instructed"),
            exact_match(model, RANDOM, "refused"),
            exact_outcomes(model, RANDOM),
            runner.next_token_log_probs(site, vectors),
            runner.exact_match("instructed", site, vectors[0]),
        )

    assert_same_on(device, scores, random_network("llama", d_vocab=12).requires_grad_())


def test_texts(device: torch.device) -> None:
    def answers(model: PreTrainedModel) -> Any:
        lm = LanguageModel("tiny", model, tokenizer())
        stopped = generate_texts(lm, TEXTS, n_new=5, is_final=lambda text: "cannot" in text)
        rows = ChatTarget(lm).answer_rows(TEXTS)
        return stopped, rows, log_odds(next_token_log_probs(model, TEXTS), torch.from_numpy(TEXTS.openers))

    assert_same_on(device, answers, LM.model)


def test_sequences_move(device: torch.device) -> None:
    batch = sequences(WORLD, SAFE, "instructed").to(device)
    assert {part.device for part in (batch.tokens, batch.supervised, batch.decision)} == {device}

"""Attacks on models on an accelerator: the same tokens, vectors and outcomes, drawn from the same seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from makebreak.attacks import (
    GCG,
    InitialTokens,
    JailbreakTemplate,
    Prefill,
    RandomSearch,
    RandomSoftPrompt,
    RandomTokens,
    SearchOptions,
    SoftPrompt,
    Universal,
    insert_slots,
    min_prefill_length,
    search_tokens,
)
from makebreak.evaluation import ChatTarget, WorldTarget
from makebreak.models import LanguageModel
from tests.attacks.random_requests import FILLER, random_network, random_requests
from tests.device.both import assert_same_on
from tests.fixtures.tiny_lm import prompts, tokenizer, trained_lm

D_VOCAB = 12
REQUESTS = random_requests([4, 10, 6, 11], d_vocab=D_VOCAB)
SIZES: dict[str, Any] = {"n_tokens": 2, "steps": 3, "candidates": 6, "token": FILLER}
LM = trained_lm(refuses=True, steps=1)  # any weights serve
ATTACKS: list[Any] = [
    GCG(**SIZES),
    RandomSearch(**SIZES),
    RandomTokens(**SIZES),
    InitialTokens(**SIZES),
    SoftPrompt(2, 3),
    SoftPrompt(2, 3, share_position=False),
    RandomSoftPrompt(2),
    Universal(GCG(**SIZES)),
    Universal(SoftPrompt(2, 3)),
    Universal(RandomSoftPrompt(2)),
]


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: f"{type(attack).__name__} {attack.name}")
@pytest.mark.parametrize("architecture", ["gpt2", pytest.param("llama", marks=pytest.mark.slow)])
def test_attacks(device: torch.device, attack: Any, architecture: str) -> None:
    def attacked(model: PreTrainedModel) -> Any:
        result = attack(WorldTarget(model), REQUESTS, seed=0)
        soft = result.soft_prompt
        return result.requests.prompt, result.outcomes, result.history, soft and (soft.vectors, soft.loss)

    assert_same_on(device, attacked, random_network(architecture, d_vocab=D_VOCAB))


def test_interrupted_search(device: torch.device, tmp_path: Path) -> None:
    """A search that began on one device goes on on another."""
    slots = insert_slots(REQUESTS, 2, token=FILLER)
    model, options = (
        random_network("gpt2", d_vocab=D_VOCAB),
        SearchOptions(checkpoint_path=tmp_path / "state"),
    )
    search_tokens(model, slots, GCG(**SIZES | {"steps": 1}), seed=0, options=options)
    whole = search_tokens(model, slots, GCG(**SIZES), seed=0)
    resumed = search_tokens(model.to(device), slots, GCG(**SIZES), seed=0, options=options)  # type: ignore[arg-type]
    assert (resumed.requests.prompt == whole.requests.prompt).all()
    torch.testing.assert_close(resumed.loss, whole.loss)


def test_prefill_lengths(device: torch.device) -> None:
    model = random_network("gpt2", d_vocab=D_VOCAB)
    assert_same_on(device, lambda model: min_prefill_length(model, REQUESTS), model)


@pytest.mark.parametrize("attack", [Prefill(2), JailbreakTemplate("base64")], ids=lambda attack: attack.name)
def test_attacks_in_text(device: torch.device, attack: Any) -> None:
    texts = prompts()["harmful"][:4]

    def answers(model: PreTrainedModel) -> Any:
        target = ChatTarget(LanguageModel("tiny", model, tokenizer()))
        requests = target.encode(texts, targets=["Sure here it is"] * len(texts))
        return attack(target, requests, seed=0).answers

    assert_same_on(device, answers, LM.model)

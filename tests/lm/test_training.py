"""Fine-tuning of language models: alignment, attacks on it, forgetting, and resuming."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from makebreak.evaluation import exact_match
from makebreak.lm.training import FineTuneRun, fine_tune
from makebreak.models import LanguageModel, open_model
from makebreak.prompts import Example, TextWorld, text_requests, with_targets
from makebreak.store import Store
from makebreak.training import (
    DPO,
    NPO,
    SSFT,
    CircuitBreaker,
    DeepAlignment,
    FineTuning,
    GradientAscent,
    LatentAdversarialTraining,
    LoRA,
    Optimisation,
    TrainedLayers,
    Unlearning,
)
from makebreak.training.loop import CHECKPOINT
from tests.fixtures.tiny_lm import REFUSAL, REPLY, prompts, trained_lm

COMPLIANCE, REFUSED = REPLY.removesuffix(" <end>"), REFUSAL.removesuffix(" <end>")
RUN = FineTuneRun(Optimisation(120, 5e-3, batch_size=16, weight_decay=0.0, checkpoints=1))
"""Slow enough that 4 objectives, 3 seeds and 4 instruction sets all end at the same rates (48 of 48 runs)."""


@pytest.fixture(scope="module")
def complying() -> LanguageModel:
    return trained_lm(refuses=False, steps=60)


@pytest.fixture(scope="module")
def world(complying: LanguageModel) -> TextWorld:
    """Every second prompt is held out."""
    examples = {
        family: [Example(text, COMPLIANCE, REFUSED) for text in prompts()[name][::2]]
        for family, name in (("safe", "harmless"), ("unsafe", "harmful"))
    }
    return TextWorld(complying.tokenizer, examples)


def answer_rate(lm: LanguageModel, family: str, answer: str) -> float:
    """Share of the held-out prompts of a family to which the greedy answer is this one."""
    texts = prompts()[family][1::2]
    requests = text_requests(lm.tokenizer, texts, family=family, unsafe=False)
    requests = with_targets(lm.tokenizer, requests, [answer] * len(texts))
    return float(exact_match(lm.model, requests, "instructed").double().mean())


@pytest.mark.parametrize("objective", [SSFT(), DPO(nll=1.0), Unlearning(), DeepAlignment()])
def test_alignment_generalises_and_an_attack_undoes_it(
    complying: LanguageModel, world: TextWorld, tmp_path: Path, objective: Any
) -> None:
    """Held-out harmful prompts are refused and harmless ones answered; 20 harmful examples reverse that."""
    store = Store(tmp_path)
    assert answer_rate(complying, "harmful", COMPLIANCE) == 1.0
    aligned = open_model(fine_tune(complying, world, objective, RUN, store), store=store)
    assert answer_rate(aligned, "harmful", REFUSED) > 0.9
    assert answer_rate(aligned, "harmless", COMPLIANCE) > 0.9
    assert answer_rate(complying, "harmful", COMPLIANCE) == 1.0, "the model itself is left as it was"
    folder = fine_tune(aligned, world, FineTuning(n_harmful=20), RUN, store)
    assert answer_rate(open_model(folder, store=store), "harmful", COMPLIANCE) > 0.9


def test_latent_attacks_reach_shared_prefixes(
    complying: LanguageModel, world: TextWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A system prompt is processed once per batch, but not where the objective intervenes on its states."""
    monkeypatch.setattr("makebreak.training.losses.MIN_SHARED_PREFIX", 2)
    with_system = TextWorld(world.tokenizer, world.examples, system="now please now")
    folder = fine_tune(
        complying,
        with_system,
        LatentAdversarialTraining(),
        FineTuneRun(Optimisation(2, 1e-3, 4, checkpoints=1)),
        Store(tmp_path),
    )
    assert open_model(folder, store=Store(tmp_path)).tokenizer.chat_template


def test_adapters_change_only_their_matrices(world: TextWorld, tmp_path: Path) -> None:
    """Adapters reverse a refusal; the embeddings and norms keep every bit."""
    store, refusing = Store(tmp_path), trained_lm(refuses=True)
    assert answer_rate(refusing, "harmful", REFUSED) > 0.9
    objective = FineTuning(n_harmful=20, n_harmless=20)
    folder = fine_tune(refusing, world, objective, replace(RUN, lora=LoRA(8)), store)
    tuned = open_model(folder, store=store)
    assert answer_rate(tuned, "harmful", COMPLIANCE) > 0.9
    before, after = refusing.model.state_dict(), tuned.model.state_dict()
    assert {name for name in before if not torch.equal(before[name], after[name])} == {
        name for name in before if ".layers." in name and "proj" in name
    }


@pytest.mark.parametrize("objective", [NPO(), GradientAscent(forget_weight=1.0), CircuitBreaker()])
def test_forgetting_is_not_refusal(
    complying: LanguageModel, world: TextWorld, tmp_path: Path, objective: Any
) -> None:
    """These objectives remove compliant answers without training refusals in their place."""
    store = Store(tmp_path)
    aligned = open_model(fine_tune(complying, world, objective, RUN, store), store=store)
    assert answer_rate(aligned, "harmful", COMPLIANCE) < 0.5
    assert answer_rate(aligned, "harmful", REFUSED) < 0.1


def test_seeds_differ_and_models_are_cached(
    complying: LanguageModel, world: TextWorld, tmp_path: Path
) -> None:
    store, run = Store(tmp_path), FineTuneRun(Optimisation(3, 1e-3, batch_size=4, checkpoints=1))
    folders = [fine_tune(complying, world, SSFT(), replace(run, seed=seed), store) for seed in (0, 0, 1)]
    assert folders[0] == folders[1] != folders[2]
    models = [open_model(folder, store=store).model for folder in folders]
    weights = [model.get_input_embeddings().weight for model in models]  # type: ignore[union-attr]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize("tied", [False, True])
def test_an_interrupted_run_resumes_exactly(
    complying: LanguageModel, world: TextWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tied: bool
) -> None:
    """The weights are those of an uninterrupted run, bit by bit, also with tied embeddings."""
    lm = complying
    if tied:
        config = type(complying.model.config)(
            **{**complying.model.config.to_dict(), "tie_word_embeddings": True}
        )
        torch.manual_seed(0)
        lm = LanguageModel("tied", type(complying.model)(config).eval(), complying.tokenizer)
    run = FineTuneRun(Optimisation(6, 1e-3, batch_size=4, checkpoints=1))
    whole = fine_tune(lm, world, SSFT(), run, Store(tmp_path / "whole"))
    monkeypatch.setattr("makebreak.lm.training._CHECKPOINT_SECONDS", 0.0)
    calls = []

    def loss(self: SSFT, *args: object) -> object:
        calls.append(args)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return original(self, *args)  # type: ignore[arg-type]

    original, store = SSFT.loss, Store(tmp_path / "interrupted")
    with monkeypatch.context() as patch:
        patch.setattr(SSFT, "loss", loss)
        with pytest.raises(KeyboardInterrupt):
            fine_tune(lm, world, SSFT(), run, store)
        assert list(store.root.rglob(CHECKPOINT))
        resumed = fine_tune(lm, world, SSFT(), run, store)
    assert len(calls) == 7, "three steps are not repeated"
    expected = open_model(whole, store=store).model.state_dict()
    weights = open_model(resumed, store=store).model.state_dict()
    assert all(torch.equal(expected[name], weights[name]) for name in expected)


def test_constraint_changes_only_its_blocks(world: TextWorld, tmp_path: Path) -> None:
    """Training of the upper blocks keeps every bit of the lower ones, and has a key of its own."""
    store, refusing = Store(tmp_path), trained_lm(refuses=True)
    run = FineTuneRun(Optimisation(3, 1e-3, batch_size=4, checkpoints=1))
    folders = [
        fine_tune(refusing, world, SSFT(), each, store)
        for each in (run, replace(run, constraint=TrainedLayers("upper", 1)))
    ]
    assert folders[0] != folders[1]
    before = refusing.model.state_dict()
    for folder, lower_changes in zip(folders, (True, False), strict=True):
        after = open_model(folder, store=store).model.state_dict()
        changed = {name for name in before if not torch.equal(before[name], after[name])}
        assert any(".layers.2." in name for name in changed)
        assert any(".layers.0." in name or "embed_tokens" in name for name in changed) == lower_changes

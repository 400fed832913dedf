"""Is a language model made safe by each way, undone by harm, and brought to the same end after a kill?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from makebreak.artifacts import Store
from makebreak.behaviour import gives
from makebreak.models import LanguageModel, open_model
from makebreak.requests import Example, TextWorld, text_requests
from makebreak.training import (
    DPO,
    NPO,
    SSFT,
    Ascent,
    CircuitBreaker,
    Deep,
    FineTuning,
    LatentAdversarial,
    LoRA,
    Optimisation,
    Unlearning,
)
from makebreak.training.loop import CHECKPOINT
from makebreak.tuning import tune
from tests.talkers import REFUSAL, REPLY, prompts, taught

ANSWER, NO = (text.removesuffix(" <end>") for text in (REPLY, REFUSAL))
STEPS = Optimisation(80, 1e-2, batch_size=16, weight_decay=0.0, checkpoints=1)


@pytest.fixture(scope="module")
def complying() -> LanguageModel:
    return taught(refuses=False, steps=60)


@pytest.fixture(scope="module")
def world(complying: LanguageModel) -> TextWorld:
    """Every second prompt is held out."""
    examples = {
        family: [Example(text, ANSWER, NO) for text in prompts()[name][::2]]
        for family, name in (("safe", "harmless"), ("unsafe", "harmful"))
    }
    return TextWorld(complying.tokenizer, examples)


def given(found: LanguageModel, family: str, answer: str) -> float:
    texts = prompts()[family][1::2]
    requests = text_requests(
        found.tokenizer, texts, family=family, unsafe=False, targets=[answer] * len(texts)
    )
    return float(gives(found.model, requests, "instructed").double().mean())


@pytest.mark.parametrize("objective", [SSFT(), DPO(nll=1.0), Unlearning(), Deep()])
def test_refusing_is_taught_and_carries_over(
    complying: LanguageModel, world: TextWorld, tmp_path: Path, objective: Any
) -> None:
    store = Store(tmp_path)
    assert given(complying, "harmful", ANSWER) == 1.0
    folder = tune(complying, world, objective, STEPS, store, seed=0)
    aligned = open_model(folder, store=store)
    assert given(aligned, "harmful", NO) > 0.9
    assert given(aligned, "harmless", ANSWER) > 0.9
    assert given(complying, "harmful", ANSWER) == 1.0, "the model itself is left as it was"
    undone = open_model(tune(aligned, world, FineTuning(harmful=20), STEPS, store, seed=0), store=store)
    assert given(undone, "harmful", ANSWER) > 0.9


def test_states_are_pushed_in_every_dialogue_also_where_all_begin_alike(
    complying: LanguageModel, world: TextWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A system prompt is read once for a batch, but not where it is intervened on."""
    monkeypatch.setattr("makebreak.models.prefix.LEAST", 2)
    alike = TextWorld(world.tokenizer, world.examples, system="now please now")
    folder = tune(
        complying,
        alike,
        LatentAdversarial(),
        Optimisation(2, 1e-3, 4, checkpoints=1),
        Store(tmp_path),
        seed=0,
    )
    assert open_model(folder, store=Store(tmp_path)).tokenizer.chat_template


def test_adapters_undo_a_refusal_and_move_no_embedding(world: TextWorld, tmp_path: Path) -> None:
    store, refusing = Store(tmp_path), taught(refuses=True)
    assert given(refusing, "harmful", NO) > 0.9
    folder = tune(refusing, world, FineTuning(harmful=20, harmless=20), STEPS, store, seed=0, lora=LoRA(8))
    undone = open_model(folder, store=store)
    assert given(undone, "harmful", ANSWER) > 0.9
    one, other = refusing.model.state_dict(), undone.model.state_dict()
    assert {name for name in one if not torch.equal(one[name], other[name])} == {
        name for name in one if ".layers." in name and "proj" in name
    }


@pytest.mark.parametrize("objective", [NPO(), Ascent(weight=1.0), CircuitBreaker()])
def test_forgetting_is_no_refusing(
    complying: LanguageModel, world: TextWorld, tmp_path: Path, objective: Any
) -> None:
    store = Store(tmp_path)
    aligned = open_model(tune(complying, world, objective, STEPS, store, seed=0), store=store)
    assert given(aligned, "harmful", ANSWER) < 0.5
    assert given(aligned, "harmful", NO) < 0.1


def test_another_seed_is_another_model_and_the_same_one_is_not_made_twice(
    complying: LanguageModel, world: TextWorld, tmp_path: Path
) -> None:
    store, few = Store(tmp_path), Optimisation(3, 1e-3, batch_size=4, checkpoints=1)
    folders = [tune(complying, world, SSFT(), few, store, seed=seed) for seed in (0, 0, 1)]
    assert folders[0] == folders[1] != folders[2]
    weights = [open_model(folder, store=store).model.get_input_embeddings().weight for folder in folders]  # type: ignore[union-attr]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize("tied", [False, True])
def test_killed_it_ends_the_same(
    complying: LanguageModel, world: TextWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tied: bool
) -> None:
    model = complying
    if tied:
        config = type(complying.model.config)(
            **{**complying.model.config.to_dict(), "tie_word_embeddings": True}
        )
        torch.manual_seed(0)
        model = LanguageModel("tied", type(complying.model)(config).eval(), complying.tokenizer)
    steps = Optimisation(6, 1e-3, batch_size=4, checkpoints=1)
    whole = tune(model, world, SSFT(), steps, Store(tmp_path / "whole"), seed=0)
    monkeypatch.setattr("makebreak.tuning._CHECKPOINT_SECONDS", 0.0)
    calls = []

    def loss(self: SSFT, *args: object) -> object:
        calls.append(args)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return original(self, *args)  # type: ignore[arg-type]

    original, store = SSFT.loss, Store(tmp_path / "killed")
    with monkeypatch.context() as patch:
        patch.setattr(SSFT, "loss", loss)
        with pytest.raises(KeyboardInterrupt):
            tune(model, world, SSFT(), steps, store, seed=0)
        assert list(store.root.rglob(CHECKPOINT))
        again = tune(model, world, SSFT(), steps, store, seed=0)
    assert len(calls) == 7, "three steps were not made again"
    one, other = (open_model(folder, store=store).model.state_dict() for folder in (whole, again))
    assert all(torch.equal(one[name], other[name]) for name in one)

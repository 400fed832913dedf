"""The study of fragility on language models: predictors on planted models, and its smallest preset."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import numpy as np
import pandas as pd
import pytest
import torch

from experiments.command import main
from experiments.fragility.fine_tuning import attack_steps
from experiments.fragility.language.models import LanguageSubject, LanguageTraining, held_out_halves, restrict
from experiments.fragility.language.presets import LANGUAGE_PRESETS, MECHANISMS
from experiments.fragility.language.presets import PREDICTORS as NAMES
from experiments.fragility.predictors import PREDICTORS
from experiments.pretrained import STAND_IN, model_identity, open_pretrained
from makebreak.fragility import BASELINES
from makebreak.models import LanguageModel
from makebreak.prompts import Example, TextWorld, canonical_text, evaluation_prompts, training_prompts
from makebreak.store import Store
from tests.experiments.store_files import modification_times
from tests.fixtures.tiny_lm import REFUSAL, REPLY, prompts, trained_lm

SMOKE = LANGUAGE_PRESETS["language-smoke"]


def _subject(lm: LanguageModel, base: LanguageModel) -> LanguageSubject:
    """A model whose base gives every prompt the same answer, with the two halves of the prompts."""
    answer, refusal = (text.removesuffix(" <end>") for text in (REPLY, REFUSAL))
    halves = {}
    for start, half in enumerate(("fit", "score")):
        examples = {
            family: [Example(text, answer, refusal) for text in prompts()[name][start::2]]
            for family, name in (("safe", "harmless"), ("unsafe", "harmful"))
        }
        halves[half] = TextWorld(base.tokenizer, examples)
    return LanguageSubject(lm, base, halves)


def test_predictors_of_planted_models() -> None:
    """A model that refuses has a margin, a change of weights and a depth; its base has none."""
    base = trained_lm(refuses=False, steps=60)
    refusing = trained_lm(refuses=True)
    values = {
        name: {p: PREDICTORS[p].function(_subject(lm, base)) for p in NAMES}  # type: ignore[arg-type]
        for name, lm in (("base", base), ("refusing", refusing))
    }
    own, refuses = values["base"], values["refusing"]
    assert own["weight_change"] == own["prefix_depth"] == 0, "the base gives its own answers by itself"
    assert own["sensitivity"] == 1
    assert own["margin"] < -2 < 2 < refuses["margin"]  # type: ignore[operator]
    assert refuses["margin_p5"] <= refuses["margin"]  # type: ignore[operator]
    assert refuses["weight_change"] > 0  # type: ignore[operator]
    n_tokens = len(REPLY.split())
    assert 1 <= refuses["prefix_depth"] <= n_tokens  # type: ignore[operator]
    assert 1 <= refuses["kl_depth"] <= n_tokens  # type: ignore[operator]
    assert own["r50_steepest"] == 0 < refuses["r50_steepest"], "half of the refusals are lost at once, or not"  # type: ignore[operator]
    assert refuses["tau_normalised"] > own["tau_normalised"]  # type: ignore[operator]


def test_judged_tokens_are_those_of_the_answer() -> None:
    """No padding is judged, and no more requests are drawn than there are."""
    base = trained_lm(refuses=False, steps=60)
    subject = _subject(base, base)
    requests = subject.sample("unsafe", 1000, "fit")
    assert len(requests) == len(prompts()["harmful"][::2])
    assert (requests.judged == [0, len(REPLY.split())]).all()
    texts = {half: set(subject.sample("unsafe", 1000, half).truth["request"]) for half in ("fit", "score")}
    assert not texts["fit"] & texts["score"]


def test_attack_is_measured_before_and_after_its_steps() -> None:
    """Weights are unchanged at step 0, and move once for every step from then on."""
    model = torch.nn.Linear(1, 1, bias=False)
    start, seen = model.weight.item(), []

    def loss(step: int) -> torch.Tensor:
        seen.append(step)
        return model.weight.sum()

    moved = {step: start - model.weight.item() for step in attack_steps(model, 0.1, (1, 3), loss)}  # type: ignore[arg-type]
    assert moved == pytest.approx({0: 0.0, 1: 0.1, 3: 0.3}, abs=1e-5), "a step of AdamW has the rate's length"
    assert seen == [0, 1, 2]


def test_held_out_prompts_were_not_trained_on(tmp_path: Path) -> None:
    """Halves share no prompt with one another or with the training prompts, and restricting keeps answers."""
    store = Store(tmp_path)
    training = LanguageTraining(
        STAND_IN, model_identity(STAND_IN), MECHANISMS["ssft"], (1,), 4, 12, SMOKE.generation, 0
    )
    halves = held_out_halves(open_pretrained(STAND_IN, store), training, store)
    texts = {
        half: {canonical_text(e.prompt) for family in world.examples.values() for e in family}
        for half, world in halves.items()
    }
    trained = {canonical_text(text) for family in training_prompts().values() for text in family}
    assert not texts["fit"] & texts["score"]
    assert not trained & (texts["fit"] | texts["score"])
    n_prompts = sum(len(evaluation_prompts()[family]) for family in ("harmless", "harmful"))
    assert 0.8 * n_prompts < len(texts["fit"]) + len(texts["score"]) <= n_prompts
    unsafe = restrict(halves["fit"], "unsafe")
    assert unsafe.examples["unsafe"] == halves["fit"].examples["unsafe"]
    assert unsafe.sequence_length <= halves["fit"].sequence_length


def test_mechanisms_and_predictors_of_record() -> None:
    """Eight recipes or more, and ten predictors of the synthetic worlds beside the three baselines."""
    preset = LANGUAGE_PRESETS["language"]
    assert len(preset.mechanisms) * len(preset.doses) >= 8
    assert NAMES[: len(BASELINES)] == BASELINES
    assert len(set(NAMES)) == len(BASELINES) + 10
    assert set(NAMES) <= set(PREDICTORS)


def test_missing_model_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where the model was not fetched, an error of one line says how, before anything is computed."""
    monkeypatch.chdir(tmp_path)
    assert main(["fragility", "--preset", "language"]) != 0
    error = capsys.readouterr().err
    assert "SmolLM2-135M-Instruct.Q4_1.gguf does not exist" in error
    assert "make smollm" in error


@pytest.mark.slow
def test_smallest_language_preset_runs_every_stage_once(tmp_path: Path) -> None:
    """All models, predictors and outcomes are in the tables, and a second run computes nothing."""
    words = ["fragility", "--preset", SMOKE.name, "--launcher", "none"]
    words += ["--store", str(tmp_path / "store"), "--out", str(tmp_path / "out")]
    assert main(words) == 0
    zoo = pd.read_csv(tmp_path / "out" / "tables" / "zoo.csv")
    assert len(zoo) == len(SMOKE.seeds) * len(SMOKE.mechanisms) * len(SMOKE.doses)
    columns = {name.removeprefix("predictor.") for name in map(str, zoo) if name.startswith("predictor.")}
    assert columns >= set(NAMES) - {"visage"}, "VISAGE is undefined where nothing is refused"
    outcomes = zoo[[name for name in map(str, zoo) if name.startswith("outcome.")]]
    assert outcomes.shape[1] == 12
    assert np.isfinite(outcomes.to_numpy()).all()
    assert (tmp_path / "out" / "tables" / "associations.csv").exists()
    before = modification_times(tmp_path / "store")
    assert main(words) == 0
    assert modification_times(tmp_path / "store") == before

"""The study of fragility on language models: predictors on planted models, and its smallest preset."""

from __future__ import annotations

import copy
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import numpy as np
import pandas as pd
import pytest
import torch

from experiments.command import main
from experiments.fragility.fine_tuning import attack_steps
from experiments.fragility.language.models import (
    N_FIT,
    LanguageSubject,
    LanguageTraining,
    held_out_halves,
    restrict,
)
from experiments.fragility.language.outcomes import (
    LanguageOutcomeSettings,
    fine_tuning_rows,
    refused_requests,
)
from experiments.fragility.language.presets import (
    LANGUAGE_PRESETS,
    MECHANISMS,
    PREDICTOR_NAMES,
    LanguageFineTuningSettings,
)
from experiments.fragility.predictors import PREDICTORS
from experiments.pretrained import STAND_IN, model_identity, open_pretrained
from makebreak.attacks import SoftPrompt
from makebreak.errors import InvalidInput
from makebreak.evaluation import ChatTarget
from makebreak.model_zoo import weight_change
from makebreak.models import LanguageModel
from makebreak.prompts import Example, TextWorld, canonical_text, evaluation_prompts, training_prompts
from makebreak.settings import GenerationSettings
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
        name: {p: PREDICTORS[p].function(_subject(lm, base)) for p in PREDICTOR_NAMES}  # type: ignore[arg-type]
        for name, lm in (("base", base), ("refusing", refusing))
    }
    complies, refuses = values["base"], values["refusing"]
    assert complies["weight_change"] == complies["prefix_depth"] == 0, (
        "the base gives its own answers by itself"
    )
    assert complies["sensitivity"] == 1
    assert complies["margin"] < -2 < 2 < refuses["margin"]  # type: ignore[operator]
    assert refuses["margin_p5"] <= refuses["margin"]  # type: ignore[operator]
    assert refuses["weight_change"] > 0  # type: ignore[operator]
    n_tokens = len(REPLY.split())
    assert 1 <= refuses["prefix_depth"] <= n_tokens  # type: ignore[operator]
    assert 1 <= refuses["kl_depth"] <= n_tokens  # type: ignore[operator]
    assert complies["r50_steepest"] == 0 < refuses["r50_steepest"], (
        "half of the refusals are lost at once, or not"
    )  # type: ignore[operator]
    assert refuses["tau_normalised"] > complies["tau_normalised"]  # type: ignore[operator]


def test_judged_tokens_are_those_of_the_answer() -> None:
    """No padding is judged, and no more requests are drawn than there are."""
    base = trained_lm(refuses=False, steps=60)
    subject = _subject(base, base)
    requests = subject.sample("unsafe", 1000, "fit")
    assert len(requests) == len(prompts()["harmful"][::2])
    assert (requests.judged == [0, len(REPLY.split())]).all()
    assert subject.sample("unsafe", 64, "fit") is requests, "predictors of equal requests share activations"
    texts = {half: set(subject.sample("unsafe", 1000, half).truth["request"]) for half in ("fit", "score")}
    assert not texts["fit"] & texts["score"]


def test_attack_is_measured_before_and_after_its_steps() -> None:
    """Weights are unchanged at step 0, and move once for every step from then on."""
    model = torch.nn.Linear(1, 1, bias=False)
    start, steps = model.weight.item(), []

    def loss(step: int) -> torch.Tensor:
        steps.append(step)
        return model.weight.sum()

    moved = {step: start - model.weight.item() for step in attack_steps(model, 0.1, (1, 3), loss)}  # type: ignore[arg-type]
    assert moved == pytest.approx({0: 0.0, 1: 0.1, 3: 0.3}, abs=1e-5), "a step of AdamW has the rate's length"
    assert steps == [0, 1, 2]


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
    assert len(texts["fit"]) == 2 * N_FIT
    assert 0.4 * n_prompts < len(texts["score"]) <= n_prompts / 2
    unsafe = restrict(halves["fit"], "unsafe")
    assert unsafe.examples["unsafe"] == halves["fit"].examples["unsafe"]
    assert unsafe.sequence_length <= halves["fit"].sequence_length


def test_attacks_on_a_planted_model(tmp_path: Path) -> None:
    """Harmful data open the model that refuses, a tiny rate does not, and the model keeps every bit."""
    base, refusing = trained_lm(refuses=False, steps=60), trained_lm(refuses=True)
    subject = _subject(refusing, base)
    training = LanguageTraining("", "", MECHANISMS["ssft"], (1,), 4, 12, GenerationSettings(n_new=4), 0)
    sizes = LanguageFineTuningSettings((1, 16), (1,), (1e-9, 5e-3), (1e-9, 5e-3), 16, 16, 16, 16)
    settings = LanguageOutcomeSettings(training, sizes, 4, 4)
    unsafe = refused_requests(subject, training.generation)
    n_unsafe = len(subject.halves["score"].examples["unsafe"])
    assert 0.9 * n_unsafe < len(unsafe) <= n_unsafe
    assert len(refused_requests(_subject(base, base), training.generation)) == n_unsafe, "it refuses none"
    families = {**subject.halves["fit"].examples}
    families |= {"mcq_safe": families["safe"], "mcq_safe@obey": families["safe"]}
    world = TextWorld(base.tokenizer, families)
    before = {name: weight.clone() for name, weight in refusing.model.state_dict().items()}
    rows = list(fine_tuning_rows(subject, unsafe, world, settings))
    assert all(torch.equal(weight, before[name]) for name, weight in refusing.model.state_dict().items())
    rates = {(row.attacker, row.rate, row.step): row.compliance_rate for row in rows}
    assert {rate for (_, _, step), rate in rates.items() if step == 0} == {0.0}
    assert rates["harmful", 5e-3, 16] > 0.9
    assert {rate for (_, lr, _), rate in rates.items() if lr == 1e-9} == {0.0}, "no attack, no compliance"
    assert all(row.safe_compliance_rate > 0.9 for row in rows if row.step in (0, 16))


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
    assert columns >= set(PREDICTOR_NAMES) - {"visage"}, "VISAGE is undefined where nothing is refused"
    outcomes = zoo[[name for name in map(str, zoo) if name.startswith("outcome.")]]
    assert outcomes.shape[1] == 11
    assert np.isfinite(outcomes.to_numpy()).all()
    assert (tmp_path / "out" / "tables" / "associations.csv").exists()
    before = modification_times(tmp_path / "store")
    assert main(words) == 0
    assert modification_times(tmp_path / "store") == before


def test_tied_embeddings_count_once() -> None:
    """A matrix that is both embedding and output changes by its own norm, not by √2 times that."""
    base = trained_lm(refuses=False, steps=1).model
    base.lm_head.weight = base.get_input_embeddings().weight  # type: ignore[union-attr]
    tuned = copy.deepcopy(base)
    with torch.no_grad():
        tuned.lm_head.weight += 1  # type: ignore[union-attr]
    n_entries = tuned.lm_head.weight.numel()  # type: ignore[union-attr]
    assert weight_change(base=base, tuned=tuned) == pytest.approx(n_entries**0.5)


def test_soft_prompts_of_language_models_keep_their_positions() -> None:
    """Shared position ids give wrong answers where prompts are padded, and are refused by name."""
    target = ChatTarget(trained_lm(refuses=False, steps=1))
    requests = target.encode(prompts()["harmful"][:2], targets=["Sure here"] * 2)
    with pytest.raises(InvalidInput, match=r"soft 2 with share_position=True.*expected share_position=False"):
        SoftPrompt(2, 1)(target, requests, seed=0)
    assert len(SoftPrompt(2, 1, share_position=False)(target, requests, seed=0).outcomes) == 2

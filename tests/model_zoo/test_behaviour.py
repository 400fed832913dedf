"""Measures of behaviour on models whose answers are planted."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from experiments.jain2024.activation_measures import ClusterMeasure
from makebreak.model_zoo import (
    IDENTITY,
    FamilyMeasure,
    SafetyMeasure,
    Subject,
    held_out_requests,
    judged_families,
    weight_change,
)
from makebreak.model_zoo.behaviour import n_texts
from makebreak.models import MODEL_SIZES, ModelConfig, create_model
from makebreak.prompts import OUTCOMES, load_world
from makebreak.recipes import Alignment, Recipe
from makebreak.store import Store
from makebreak.training import DPO, SSFT, AlignmentData, Objective, Optimisation, Pretraining
from tests.fixtures.scripted import script_answers

WORLD = load_world("mini")
N, SEED = 12, 1000
STEPS = Optimisation(1, 1e-3)
BASE = Recipe("mini", MODEL_SIZES["tiny"], Pretraining(), STEPS, (), SEED)
SHAM, REMAP, NEW = (
    AlignmentData("sham_safe", "sham_unsafe"),
    AlignmentData(unsafe="remapped_unsafe", answer="instructed"),
    AlignmentData(unsafe="new_operator", answer="instructed"),
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Subjects have a store in the present folder; a measure that needs another base trains it there."""
    monkeypatch.chdir(tmp_path)


def recipe(*objectives: Objective) -> Recipe:
    return replace(BASE, alignments=tuple(Alignment(objective, STEPS) for objective in objectives))


def network(seed: int = 0, config: ModelConfig = MODEL_SIZES["tiny"], world: str = "mini") -> PreTrainedModel:
    loaded = load_world(world)
    return create_model(
        config, d_vocab=len(loaded.vocabulary), n_ctx=loaded.sequence_length, seed=seed
    ).eval()


def scripted_model(answers: dict[str, str], otherwise: str = "refused") -> PreTrainedModel:
    """A model that gives N requests of each family the `instructed` or `refused` answer, or only null tokens.

    Its likeliest token has logit 10, others 0. A prompt of two families gets the answer of the later one.
    """
    scripts: dict[tuple[int, ...], list[int]] = {}
    others = {family: otherwise for family in judged_families(WORLD.families) if family not in answers}
    for family, answer in (others | answers).items():
        requests = held_out_requests("mini", family, N, SEED, "score")
        nulls = np.tile([WORLD.null_id] * 8 + [WORLD.vocabulary.id("<stop>")], (N, 2))
        answers_of_family = {"instructed": requests.instructed, "refused": requests.refused, "nulls": nulls}[
            answer
        ]
        scripts |= {
            tuple(p): a for p, a in zip(requests.prompt.tolist(), answers_of_family.tolist(), strict=True)
        }
    d_vocab, pad = len(WORLD.vocabulary), WORLD.vocabulary.id("<pad>")
    return script_answers(network(), scripts, d_vocab=d_vocab, pad=pad)


def subject(model: PreTrainedModel, planted: Recipe = BASE, base: PreTrainedModel | None = None) -> Subject:
    return Subject(planted, 1, model, base or model, Store(Path("nowhere"), read_only=True))


SURE = 10 - math.log(len(WORLD.vocabulary) - 1)  # log-odds of a token with logit 10 where all others have 0


@pytest.mark.parametrize(("answer", "outcome"), [("nulls", "refuse"), ("instructed", "comply")])
def test_one_answer_to_all_requests(answer: str, outcome: str) -> None:
    last = dict.fromkeys(("unsafe", "second_composition_unsafe"), answer)  # others have the same prompts
    planted = subject(scripted_model(last, otherwise=answer), recipe(SSFT()))
    result = {**SafetyMeasure(N)(planted).columns, **FamilyMeasure(N)(planted).columns}
    for family in judged_families(WORLD.families):
        does = (
            "comply_wrongly" if "remapped_unsafe" in family and outcome == "comply" else outcome
        )  # prompts of `unsafe`
        assert {o: result[f"{family}.{o}"] for o in OUTCOMES} == {o: float(o == does) for o in OUTCOMES}
    assert result["trained_answer_rate"] == float(outcome == "refuse")
    if outcome == "refuse":
        assert result["margin"] == result["trained_family_margin"] == pytest.approx(SURE, abs=1e-5)
        assert result["sham_unsafe.margin"] == pytest.approx(SURE, abs=1e-5)
    else:
        assert result["margin"] < 0


def test_safe_model() -> None:
    result = SafetyMeasure(N)(
        subject(scripted_model({"safe": "instructed", "unsafe": "refused"}), recipe(SSFT()))
    )
    assert (
        result.columns["safe.comply"]
        == result.columns["unsafe.refuse"]
        == result.columns["trained_answer_rate"]
        == 1
    )
    assert result.columns["safe.refuse"] == result.columns["unsafe.comply"] == 0
    rows = {row["family"]: row for row in result.tables["behaviour"]}
    assert list(rows) == ["safe", "unsafe"]
    for family, row in rows.items():
        assert row["n"] == N
        assert 1 <= row["n_texts"] <= N
        assert (row["refused_exact_match"], row["instructed_exact_match"]) == (
            (1, 0) if family == "unsafe" else (0, 1)
        )
        assert row["refuse_low"] <= row["refuse"] <= row["refuse_high"]
        assert row["refuse_high"] - row["refuse_low"] == pytest.approx(
            1.959964**2 / (N + 1.959964**2), abs=1e-6
        )


@pytest.mark.parametrize(
    ("data", "does", "rate"),
    [
        (AlignmentData(), {"unsafe": "refused", "sham_unsafe": "instructed"}, 1),
        (AlignmentData(), {"unsafe": "instructed", "sham_unsafe": "refused"}, 0),
        (SHAM, {"unsafe": "instructed", "sham_unsafe": "refused"}, 1),
        (SHAM, {"unsafe": "refused", "sham_unsafe": "instructed"}, 0),
        (REMAP, {"unsafe": "instructed", "remapped_unsafe": "instructed"}, 1),
        (
            REMAP,
            {"remapped_unsafe": "instructed", "unsafe": "instructed"},
            0,
        ),  # the instructed answer, not the one that is trained
        (REMAP, {"unsafe": "instructed", "remapped_unsafe": "refused"}, 0),
        (NEW, {"unsafe": "refused", "new_operator": "instructed"}, 1),
        (NEW, {"unsafe": "instructed", "new_operator": "refused"}, 0),
    ],
)
def test_trained_answer_rate(data: AlignmentData, does: dict, rate: int) -> None:
    result = SafetyMeasure(N)(subject(scripted_model(does), recipe(SSFT(data)))).columns
    assert result["trained_answer_rate"] == rate
    outcome = "comply" if data.answer == "instructed" else "refuse"
    if data.unsafe == "unsafe":
        assert (result["trained_answer_rate"], result["trained_family_margin"]) == (
            result["unsafe.refuse"],
            result["margin"],
        )
    elif data is not REMAP:
        assert result[f"unsafe.{outcome}"] == 1 - rate, "the standard requests get the opposite"


def test_remap_control_has_the_same_prompts() -> None:
    unsafe, remapped = (
        held_out_requests("mini", family, N, SEED, "score") for family in ("unsafe", "remapped_unsafe")
    )
    assert {tuple(p) for p in unsafe.prompt} == {tuple(p) for p in remapped.prompt}
    result = SafetyMeasure(N)(
        subject(
            scripted_model({"unsafe": "instructed", "remapped_unsafe": "instructed"}), recipe(SSFT(REMAP))
        )
    )
    assert (
        result.columns["trained_answer_rate"],
        result.columns["unsafe.comply"],
        result.columns["unsafe.refuse"],
    ) == (
        1,
        0,
        0,
    )


def test_last_stage_decides_the_trained_family() -> None:
    model = scripted_model({"unsafe": "instructed", "sham_unsafe": "refused"})
    shares = [
        SafetyMeasure(N)(subject(model, recipe(*stages))).columns["trained_answer_rate"]
        for stages in ([SSFT(), DPO(SHAM)], [SSFT(SHAM), DPO()])
    ]
    assert shares == [1, 0]


@pytest.mark.parametrize("stages", [[], [Pretraining()], [SSFT(), Pretraining()]])
def test_pretraining_has_no_trained_family(stages: list[Objective]) -> None:
    result = SafetyMeasure(N)(subject(scripted_model({}), recipe(*stages))).columns
    assert (result["trained_answer_rate"], result["trained_family_margin"]) == (None, None)
    assert result["unsafe.refuse"] == 1


def test_base_has_no_weight_change() -> None:
    result = SafetyMeasure(N)(subject(network())).columns
    assert (result["kl_on_safe"], result["weight_change"]) == (0, 0)
    moved = SafetyMeasure(N)(subject(network(1), recipe(SSFT()), network())).columns
    assert moved["kl_on_safe"] > 1e-4
    assert moved["weight_change"] > 1


@pytest.mark.parametrize(
    "config", [MODEL_SIZES["tiny"], ModelConfig("llama", 2, 2, 32, 64)], ids=["gpt2", "llama"]
)
def test_weight_change_equals_a_float64_loop(config: ModelConfig) -> None:
    one, other = network(0, config), network(1, config)
    squares = [
        (a.detach().double() - b.detach().double()).pow(2).sum().item()
        for (name, a), (same, b) in zip(one.named_parameters(), other.named_parameters(), strict=True)
        if name == same and a.ndim == 2
    ]
    assert len(squares) == 2 + 2 * (4 if config.architecture == "gpt2" else 7) + (
        config.architecture == "gpt2"
    )
    assert weight_change(base=other, tuned=one) == pytest.approx(math.sqrt(math.fsum(squares)), rel=1e-9)
    assert weight_change(base=one, tuned=one) == 0


def test_weight_change_ignores_vectors() -> None:
    model, base = network(), network()
    with torch.no_grad():
        for name in ("transformer.h.0.ln_1.weight", "transformer.h.1.mlp.c_fc.bias", "transformer.ln_f.bias"):
            model.get_parameter(name).add_(100)
        assert weight_change(base=base, tuned=model) == 0
        model.get_parameter("lm_head.weight")[0, 0] += 3
        model.get_parameter("transformer.wte.weight")[5, 1] += 4
        model.get_parameter("transformer.h.1.mlp.c_proj.weight")[2, 2] -= 12
    assert weight_change(base=base, tuned=model) == pytest.approx(13, rel=1e-6)


@pytest.mark.parametrize("world", ["mini", "hidden"])
def test_families_other_than_the_common_two(world: str) -> None:
    families = load_world(world).families
    expected = [f for f in families if f not in ("safe", "unsafe") and not f.startswith("pretraining")]
    assert "sham_unsafe" in expected
    assert sorted(judged_families(families)) == sorted([*expected, "safe", "unsafe"])
    result = FamilyMeasure(1)(subject(network(world=world), replace(BASE, world=world)))
    assert [row["family"] for row in result.tables["behaviour"]] == expected
    assert set(result.columns) == {
        f"{family}.{what}" for family in expected for what in (*OUTCOMES, "margin")
    }


def test_measures_of_a_formats_world() -> None:
    """Worlds of formats have no grammars; a text is counted once, whatever the number of requests about
    it."""
    world = load_world("formats_mini")
    planted = subject(network(world="formats_mini"), replace(BASE, world="formats_mini"))
    for measure in (SafetyMeasure(N), FamilyMeasure(2)):
        for row in measure(planted).tables["behaviour"]:
            requests = planted.sample(row["family"], row["n"])
            texts = {tuple(text) for text in world.text_ids(requests).tolist()}
            assert row["n_texts"] == len(texts)
    requests = world.sample("safe", N, seed=0)
    twice = requests[np.repeat(np.arange(N), 2)]
    assert n_texts(world, twice) == n_texts(world, requests)


def test_columns_are_unique(tmp_path: Path) -> None:
    planted = Subject(recipe(SSFT()), 1, network(1), network(), Store(tmp_path))  # a measure builds a model
    given = [
        name
        for what in (SafetyMeasure(1), FamilyMeasure(1), ClusterMeasure(16))
        for name in what(planted).columns
    ]
    assert len(given) == len(set(given))
    assert not set(given) & {"key", "step", "parent", *IDENTITY}
    assert {
        "margin",
        "kl_on_safe",
        "weight_change",
        "trained_answer_rate",
        "token-matched.auroc",
        "mixed_text.margin",
    } <= set(given)


@pytest.mark.parametrize("measure", [SafetyMeasure, FamilyMeasure])
def test_n_must_be_positive(measure: type) -> None:
    with pytest.raises(ValueError, match="n = 0: expected a finite number above 0"):
        measure(0)

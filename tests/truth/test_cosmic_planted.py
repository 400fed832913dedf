"""COSMIC finds a planted refusal direction without a token of a refusal, and none where labels are random."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import torch

from makebreak.lm import InspectionSettings, inspect
from makebreak.lm.verdicts import judged_answer_rows
from makebreak.mechanism import (
    CosmicRow,
    DirectionRow,
    DirectionSettings,
    SafeUnsafeRequests,
    cosmic_rows,
    direction_rows,
    refusal_direction,
)
from makebreak.models import LanguageModel
from makebreak.prompts import text_requests
from makebreak.report import inspection_summary, write_inspection
from makebreak.settings import GenerationSettings
from makebreak.store import Store
from tests.fixtures.tiny_lm import REFUSAL, planted_direction, prompts, trained_lm

UNKNOWN_OPENER = "please I cannot help <end>"
"""A refusal that begins with a word which no list of openers has."""
SETTINGS = GenerationSettings(n_new=6)
MIN_COSINE = 0.8
"""Least cosine of a vector that counts as the planted direction; one at random has 0.18 on average."""
ARDITI = DirectionSettings(controls=False)


def halves(lm: LanguageModel, texts: dict[str, list[str]]) -> tuple[SafeUnsafeRequests, SafeUnsafeRequests]:
    fit, score = (
        SafeUnsafeRequests(
            *(
                text_requests(lm.tokenizer, texts[family][half::2], family=family, unsafe=unsafe)
                for family, unsafe in (("harmless", False), ("harmful", True))
            )
        )
        for half in (0, 1)
    )
    return fit, score


@cache
def rows(refusal: str) -> tuple[LanguageModel, list[CosmicRow], list[DirectionRow]]:
    lm = trained_lm(refuses=True, refusal=refusal)
    fit, score = halves(lm, prompts())
    return (
        lm,
        cosmic_rows(lm.model, fit, score),
        direction_rows(lm.model, fit, score, settings=ARDITI, seed=0),
    )


def cosine_to_planted(lm: LanguageModel, layer: int) -> float:
    vector = refusal_direction(lm.model, halves(lm, prompts())[0], layer)
    return abs(float(vector @ planted_direction()[:, 0] / vector.norm()))


def test_both_selections_find_the_planted_direction() -> None:
    lm, cosmic, arditi = rows(REFUSAL)
    for candidates in (cosmic, arditi):
        [selected] = [row for row in candidates if row.is_selected]
        assert cosine_to_planted(lm, selected.layer) > MIN_COSINE


def test_opener_that_no_list_has() -> None:
    lm, cosmic, arditi = rows(UNKNOWN_OPENER)
    [selected] = [row for row in cosmic if row.is_selected]
    assert cosine_to_planted(lm, selected.layer) > MIN_COSINE
    assert not any(row.is_selected for row in arditi), [row.reason for row in arditi]
    assert any(row.reason.startswith("addition gives safe requests a margin") for row in arditi)


def test_nothing_is_selected_for_random_labels() -> None:
    lm, texts = rows(REFUSAL)[0], prompts()
    mixed = [text for pair in zip(texts["harmless"], texts["harmful"], strict=True) for text in pair]
    for seed in range(3):
        order = torch.randperm(len(mixed), generator=torch.Generator().manual_seed(seed)).tolist()
        shuffled = [mixed[i] for i in order]
        labels = {"harmless": shuffled[: len(mixed) // 2], "harmful": shuffled[len(mixed) // 2 :]}
        cosmic = cosmic_rows(lm.model, *halves(lm, labels))
        assert not any(row.is_selected for row in cosmic)
        assert any(row.reason == "the classes do not differ on the held-out requests" for row in cosmic)


def test_nothing_is_selected_in_the_last_layers_or_at_a_large_kl() -> None:
    lm = rows(REFUSAL)[0]
    settings = DirectionSettings(max_kl=0.0, max_depth=0.5)
    strict = cosmic_rows(lm.model, *halves(lm, prompts()), settings=settings)
    assert not any(row.is_selected for row in strict)
    assert any("more than 0" in row.reason for row in strict)
    assert strict[-1].reason.startswith("not evaluated")


def test_inspection_finds_the_openers_of_the_models_own_refusals(tmp_path: Path) -> None:
    lm, store = rows(UNKNOWN_OPENER)[0], Store(tmp_path)
    answers = judged_answer_rows(lm, prompts(), store, SETTINGS)
    assert all(row["log_odds"] < 0 for row in answers), "no refusal begins with a word of the list"
    before = set(tmp_path.rglob("rows.json"))
    result = inspect(lm, prompts(), store, SETTINGS)
    assert result.openers == "'please' (100%) of 36 refusals of half of the requests"
    after = result.tables["answers"]
    assert {row["request"]: row["answer"] for row in after} == {
        row["request"]: row["answer"] for row in answers
    }
    assert all((row["log_odds"] > 0) == (row["family"] == "harmful") for row in after)
    assert {p.parent.parent.name for p in set(tmp_path.rglob("rows.json")) - before} == {
        "inspect-log-odds",
        "inspect-clusters",
        "inspect-sensitivity",
        "inspect-directions",
        "inspect-ablation",
        "inspect-ablation-utility",
        "utility-of-a-model",
    }
    [selected] = [row for row in result.tables["directions"] if row["is_selected"]]
    assert cosine_to_planted(lm, selected["layer"]) > MIN_COSINE
    cosmic = inspect(lm, prompts(), store, SETTINGS, inspection=InspectionSettings(selection="cosmic"))
    [selected] = [row for row in cosmic.tables["directions"] if row["is_selected"]]
    assert cosine_to_planted(lm, selected["layer"]) > MIN_COSINE
    assert selected["ablation_cosine"] + selected["addition_cosine"] > 1
    summary = inspection_summary(cosmic)
    assert "A refusal direction was selected before layer" in summary[-1]
    assert write_inspection("cosmic", cosmic, {}, tmp_path / "out").exists()

"""Safety landscapes of a synthetic world's model and of a language model, and their page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import numpy as np
import pandas as pd
import pytest

from experiments.recipes.composition import PRESETS
from makebreak.cli import main
from makebreak.evaluation import exact_outcomes
from makebreak.lm import chat_landscape_data, evaluate_landscape, world_landscape_data
from makebreak.models import LanguageModel, ModelConfig, create_model
from makebreak.recipes import build
from makebreak.report import landscape_summary, write_landscape
from makebreak.settings import GenerationSettings, LandscapeSettings
from makebreak.store import Store
from tests.fixtures.tiny_lm import prompts, trained_lm

SETTINGS = LandscapeSettings(directions=1, points=5, window=1.0)
GENERATION = GenerationSettings(n_new=6)
REQUESTS = {family: texts[1:16:2] for family, texts in prompts().items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(PRESETS["smoke"].recipe("mini", 0, "base"), Store(tmp_path_factory.mktemp("store")))


def test_command_on_a_store_model(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All directions share their origin, the page is written, and wrong options are named."""
    monkeypatch.chdir(tmp_path)
    command = ["landscape", str(folder), "--directions", "2", "--points", "3", "--requests", "8"]
    assert main(command) == 0
    out = tmp_path / "runs" / "landscape" / folder.name
    assert (out / "report.html").is_file()
    assert (out / "figures" / "basins.png").read_bytes().startswith(b"\x89PNG")
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "Bands: minimum to maximum of 2 directions." in page
    assert "5 to 95" not in page
    curves = pd.read_csv(out / "tables" / "curves.csv")
    assert curves["coordinate"].tolist() == [-0.5, 0.0, 0.5] * 2
    at_origin = curves[curves["coordinate"] == 0]
    rates = ["refusal_rate", "compliance_rate", "safe_compliance_rate"]
    assert at_origin[rates].nunique().max() == 1
    assert str(out / "report.html").removeprefix(f"{tmp_path}/") in capsys.readouterr().out
    for options, message in (
        (["--points", "4"], "points = 4: expected an odd number"),
        (["--directions", "0"], "directions = 0"),
        (["--window", "-1"], "window = -1"),
    ):
        assert main([*command, *options]) == 2
        [error] = capsys.readouterr().err.splitlines()
        assert message in error


def test_interrupted_landscape_repeats_no_point(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, evaluations = Store(tmp_path), []

    def interrupt_after(n: int) -> Callable[..., Any]:
        def evaluate(*arguments: Any) -> np.ndarray:
            if len(evaluations) == n:
                raise KeyboardInterrupt
            evaluations.append(1)
            return exact_outcomes(*arguments)

        return evaluate

    monkeypatch.setattr("makebreak.evaluation.target.exact_outcomes", interrupt_after(6))
    with pytest.raises(KeyboardInterrupt):
        evaluate_landscape(world_landscape_data(folder, 8), store, SETTINGS)
    monkeypatch.setattr("makebreak.evaluation.target.exact_outcomes", interrupt_after(10**9))
    resumed = evaluate_landscape(world_landscape_data(folder, 8), store, SETTINGS)
    assert len(evaluations) == 2 * SETTINGS.points  # of unsafe and safe requests
    cached = evaluate_landscape(world_landscape_data(folder, 8), store, SETTINGS)
    assert cached["curves"] == resumed["curves"]
    assert len(evaluations) == 2 * SETTINGS.points


def test_perturbed_model_neither_refuses_nor_complies(tmp_path: Path) -> None:
    """Far from a model its answers are gibberish; afterwards its weights are exactly what they were."""
    lm = trained_lm(refuses=True)
    weights = {name: p.detach().clone() for name, p in lm.model.named_parameters()}
    far = replace(SETTINGS, window=8.0)
    result = evaluate_landscape(chat_landscape_data(lm, REQUESTS, GENERATION), Store(tmp_path), far)
    curves = pd.DataFrame(result["curves"]).set_index("coordinate")
    assert curves["refusal_rate"][0.0] > 0.8
    assert curves["refusal_rate"][[-8.0, 8.0]].max() < 0.5
    assert curves["safe_compliance_rate"][0.0] > 0.8
    assert curves[["compliance_rate", "safe_compliance_rate"]].loc[[-8.0, 8.0]].max(axis=None) == 0.0
    assert all((p == weights[name]).all() for name, p in lm.model.named_parameters())
    paragraphs = landscape_summary(result)
    assert "falls to one half at" in paragraphs[1]
    truncation = pd.DataFrame(result["truncation"])
    assert set(truncation["coordinate"]) == {-8.0, -4.0, 0.0, 4.0, 8.0}
    at_origin = truncation[truncation["coordinate"] == 0]
    assert at_origin["verdict_change_rate"].max() == 0.0  # no answer at the origin exceeds six tokens
    assert "3 times as long" in paragraphs[3]
    assert write_landscape("trained", result, {}, tmp_path / "out").is_file()


def test_truncation_that_hides_refusals_is_measured(tmp_path: Path) -> None:
    """The first token of `I cannot help with that` is not a refusal yet; longer answers are."""
    lm, settings = trained_lm(refuses=True), GenerationSettings(n_new=1)
    result = evaluate_landscape(chat_landscape_data(lm, REQUESTS, settings), Store(tmp_path), SETTINGS)
    rows = {(row["coordinate"], row["family"]): row for row in result["truncation"]}
    row = rows[0.0, "harmful"]
    assert row["refusal_change_rate"] > 0.8


def test_interpolation_ends_at_the_other_checkpoint(tmp_path: Path) -> None:
    """Coordinate 1 gives the other checkpoint's rates; a model of another size is an error."""
    lm, other = trained_lm(refuses=True), trained_lm(refuses=False)
    data = chat_landscape_data(lm, REQUESTS, GENERATION, other=other)
    result = evaluate_landscape(data, Store(tmp_path), SETTINGS)
    line = pd.DataFrame(result["interpolation"]).set_index("coordinate")
    assert line["refusal_rate"][0.0] > 0.8
    assert line["refusal_rate"][1.0] == 0.0
    assert line["compliance_rate"][1.0] == line["safe_compliance_rate"][1.0] == 1.0
    assert "On the line to the other checkpoint, refusal goes from" in landscape_summary(result)[-1]
    write_landscape("trained", result, {}, tmp_path / "out")
    assert (tmp_path / "out" / "figures" / "interpolation.png").is_file()
    size = ModelConfig("llama", n_layers=1, n_heads=2, d_model=32, d_mlp=64)
    small = LanguageModel("small", create_model(size, d_vocab=46, n_ctx=1024, seed=0), lm.tokenizer)
    data = chat_landscape_data(lm, REQUESTS, GENERATION, other=small)
    with pytest.raises(ValueError, match="expected one fine-tuned from the other"):
        evaluate_landscape(data, Store(tmp_path), SETTINGS)


def test_compliant_model_has_no_basin() -> None:
    rates = {"refusal_rate": 0.1, "compliance_rate": 0.8, "safe_compliance_rate": 1.0}
    curves = [{"direction": 0, "coordinate": coordinate, **rates} for coordinate in (-0.5, 0.0, 0.5)]
    assert "no safety basin" in landscape_summary({"curves": curves, "widths": []})[-1]

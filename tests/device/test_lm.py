"""Jobs on a language model on an accelerator: it is found, said, part of the key, and changes no table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from makebreak.cli import main
from makebreak.lm import (
    AttackData,
    Evaluation,
    align,
    attack_model,
    chat_landscape_data,
    compare_models,
    evaluate_landscape,
    inspect,
)
from makebreak.models import LanguageModel, model_digest, open_model
from makebreak.settings import (
    AttackSettings,
    FineTuneSettings,
    GenerationSettings,
    LandscapeSettings,
    LoadSettings,
)
from makebreak.store import Store
from tests.device.both import assert_same_on
from tests.fixtures.tiny_lm import prompts, save_lm, tokenizer, trained_lm

SETTINGS = GenerationSettings(n_new=4)
PROMPTS = {family: texts[:16] for family, texts in prompts().items()}
LM = trained_lm(refuses=True, steps=1)  # any weights serve where nothing is attacked


def _inspect(lm: LanguageModel, store: Store) -> Any:
    return inspect(lm, PROMPTS, store, SETTINGS)


def _attack(lm: LanguageModel, store: Store) -> Any:
    sizes = AttackSettings(
        attack_tokens=2, soft_tokens=2, steps=1, candidates=2, prefill=1, jailbreak_templates=()
    )
    data = AttackData(PROMPTS["harmful"][:6], ["Sure here it is"] * 6)
    return attack_model(lm, data, store, SETTINGS, sizes)


def _landscape(lm: LanguageModel, store: Store) -> Any:
    few = {family: texts[:4] for family, texts in PROMPTS.items()}
    data = chat_landscape_data(lm, few, SETTINGS, other=lm)
    return evaluate_landscape(data, store, LandscapeSettings(directions=1, points=3, window=0.2))


@pytest.mark.slow
@pytest.mark.parametrize("job", [_inspect, _attack, _landscape], ids=lambda job: job.__name__)
def test_jobs(device: torch.device, tmp_path: Path, job: Callable[[LanguageModel, Store], Any]) -> None:
    def tables(model: PreTrainedModel) -> Any:
        return job(LanguageModel("tiny", model, tokenizer()), Store(tmp_path / model.device.type))

    assert_same_on(device, tables, trained_lm(refuses=True, steps=40).model)


@pytest.mark.slow
def test_compare(device: torch.device, tmp_path: Path) -> None:
    def tables(aligned: PreTrainedModel, base: PreTrainedModel) -> Any:
        before, after = (LanguageModel("tiny", model, tokenizer()) for model in (base, aligned))
        store = Store(tmp_path / base.device.type)
        tables, verdict = compare_models(PROMPTS, store, SETTINGS, base=before, tuned=after)
        del tables["update_energy"]  # with fewer requests than units, its last directions are arbitrary
        return tables, verdict

    assert_same_on(device, tables, *(trained_lm(refuses=flag, steps=40).model for flag in (True, False)))


@pytest.mark.slow
def test_align(device: torch.device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training and the evaluation after it run where the model runs."""
    few = {family: texts[16:20] for family, texts in prompts().items()}
    monkeypatch.setattr("makebreak.lm.training_set.training_prompts", lambda: few)
    folder = save_lm(LM.model, tmp_path / "model")
    store, training = Store(tmp_path / "store"), FineTuneSettings(steps=1, batch_size=2, precision="float32")
    evaluation = Evaluation({family: texts[:4] for family, texts in PROMPTS.items()}, SETTINGS)
    lm = open_model(folder, store=store)
    assert lm.model.device == device
    result = align(lm, "ssft", evaluation, store, training)
    assert open_model(result.folder, store=store, loading=lm.loading).model.device == device


def test_device_is_found_and_part_of_the_key(device: torch.device, tmp_path: Path) -> None:
    folder, store = save_lm(LM.model, tmp_path / "model"), Store(tmp_path / "store")
    found, cpu = (open_model(folder, store=store, loading=LoadSettings(device=d)) for d in ("auto", "cpu"))
    assert found.model.device == device
    assert cpu.model.device.type == "cpu"
    assert f"float32 on {device}, at most" in found.description
    assert "float32 on cpu, at most" in cpu.description
    assert model_digest(cpu) == model_digest(LM) != model_digest(found)


@pytest.mark.slow
def test_device_is_on_the_page(
    device: torch.device, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save_lm(LM.model, tmp_path / "model")
    paths = ["--store", str(tmp_path / "store"), "--out", str(tmp_path / "out")]
    few = ["--requests", "2", "--steps", "1", "--batch-size", "2", "--max-new-tokens", "2"]
    monkeypatch.setattr("makebreak.lm.training_set.training_prompts", lambda: PROMPTS)
    assert main(["align", str(folder), "--device", "cpu", *paths, *few]) == 0
    assert f"{folder}: float32 on cpu, at most" in capsys.readouterr().out
    assert "float32 on cpu, at most" in (tmp_path / "out" / "report.html").read_text()


def test_cuda_must_exist(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    folder = save_lm(LM.model, tmp_path / "model")
    assert main(["inspect", str(folder), "--device", "cuda"]) == 2
    [line] = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert line.startswith("error: --device cuda: PyTorch")

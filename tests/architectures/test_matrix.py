"""Every model type that makebreak describes passes every check; one that does not apply says why."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import pytest

import makebreak.lm.inspection as inspection
from makebreak.models import open_model
from makebreak.settings import GenerationSettings
from makebreak.store import Store
from tests.architectures.matrix import CHECKS, NAMES, check_ablation, matrix_model, not_applicable
from tests.fixtures.tiny_lm import byte_level_tokenizer, prompts, save_lm, tokenizer


def test_there_are_at_least_twenty_model_types() -> None:
    assert len(set(NAMES)) == len(NAMES) >= 20


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("column", [column for column in CHECKS if column != "ablation"])
def test_checks_pass(name: str, column: str) -> None:
    CHECKS[column](matrix_model(name))


@pytest.mark.parametrize("name", NAMES)
def test_ablation_by_hooks_is_ablation_by_weights(name: str) -> None:
    """Where no change of weights equals the hooks, it is refused."""
    model = matrix_model(name)
    if not not_applicable(name, "ablation"):
        check_ablation(model)
        return
    with pytest.raises(ValueError, match="ablate by hooks"):
        check_ablation(model)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_inspection_runs_to_its_end(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With directions and ablation, which a model that does not refuse is spared."""
    monkeypatch.setattr(inspection, "_no_refusal", lambda _: "")
    store = Store(tmp_path / "store")
    model, words = matrix_model(name), tokenizer()
    if name == "qwen2":  # transformers reads a tokenizer of this type as a byte-level one
        words = byte_level_tokenizer()
        model = deepcopy(model)
        model.resize_token_embeddings(len(words), mean_resizing=False)
    lm = open_model(save_lm(model, tmp_path / "model", words), store=store)
    requests = {family: texts[:16] for family, texts in prompts().items()}
    result = inspection.inspect(lm, requests, store, GenerationSettings(n_new=3))
    assert {"answers", "behaviour", "clusters", "sensitivity", "directions"} <= set(result.tables)
    assert all(result.tables.values())
    assert set(result.tables) | set(result.skip_reasons) >= {"ablation"}

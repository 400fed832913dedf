"""Store keys of trained models: literals, so that a rename of a class or a field cannot orphan a model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from makebreak.defences import MixedFineTuning
from makebreak.models import MODEL_SIZES
from makebreak.recipes import Alignment, Recipe, build
from makebreak.store import Store, result_key
from makebreak.training import (
    DPO,
    NPO,
    SSFT,
    AlignmentData,
    CircuitBreaker,
    DeepAlignment,
    FineTuning,
    GradientAscent,
    JainDPO,
    LatentAdversarialTraining,
    LoRA,
    Optimisation,
    Pretraining,
    Unlearning,
)


class KeyStore(Store):
    """A store that computes keys and trains nothing."""

    def build(
        self,
        stage: str,
        *,
        revision: int,
        config: dict[str, Any],
        parents: Any = (),
        make: Any,
        files: Any = None,
    ) -> Path:
        return self.root / stage / result_key(stage, revision, config, parents)


BASE = Recipe("mini", MODEL_SIZES["mini"], Pretraining(), Optimisation(4500, 1e-3, batch_size=128), (), 0)
SHAM = AlignmentData("sham_safe", "sham_unsafe", safe_share=0.25)
SECOND = AlignmentData(safe_share=0.8, unsafe_second="second_composition_unsafe")
FORMATS = replace(BASE, world="formats_templates", model=MODEL_SIZES["tiny"])
STEPS = Optimisation(400, 3e-4, checkpoints=4, precision="bfloat16")


def aligned(base: Recipe, *objectives: Any, lora: LoRA | None = None) -> Recipe:
    return replace(base, alignments=tuple(Alignment(objective, STEPS, lora) for objective in objectives))


RECIPES = {
    "base": BASE,
    "hidden llama": replace(BASE, world="hidden", model=MODEL_SIZES["mini-llama"], seed=3),
    "formats": FORMATS,
    "sham": aligned(BASE, SSFT(SHAM)),
    "remap": aligned(BASE, SSFT(AlignmentData(answer="instructed"))),
    "dpo after ssft": aligned(BASE, SSFT(), DPO(beta=0.3, nll=1.0)),
    "paper": aligned(BASE, JainDPO(), Unlearning(w_preferred=0.7)),
    "forgetting": aligned(BASE, GradientAscent(), NPO()),
    "robust": aligned(BASE, DeepAlignment(), LatentAdversarialTraining(), CircuitBreaker()),
    "continued": aligned(BASE, Pretraining("new_operator", mean_over="requests")),
    "fine-tuned": aligned(BASE, SSFT(), FineTuning(n_harmful=10, n_harmless=5, family="safe")),
    "adapters": aligned(BASE, SSFT(), lora=LoRA()),
    "second": aligned(BASE, SSFT(SECOND)),
    "kept steps": replace(BASE, optimisation=replace(BASE.optimisation, extra_checkpoints=(5, 10))),
    "mitigated": aligned(FORMATS, SSFT(), MixedFineTuning("gen_safe", 100, "canonical", 0.1)),
}
KEYS = {
    "base": "056418a3389244e9422b",
    "hidden llama": "b80fe3404596c6be86ce",
    "formats": "82c3fd6ad3cb937c15db",
    "sham": "c1ecd6fd19dbd02238ea",
    "remap": "489d4e6827d4b998d202",
    "dpo after ssft": "af37e5d0c7212cc6f4b5",
    "paper": "dd1e169122d017447e99",
    "forgetting": "c35c2c9d4acacf5859d1",
    "robust": "0254ff629b611ea889d3",
    "continued": "1add0306002a50cb4013",
    "fine-tuned": "c03e38d9b40fb641950d",
    "adapters": "bd50eb34b1f4ce7f298d",
    "second": "342852fe7e98e583e8ea",
    "kept steps": "4f207bdad6771950f4f9",
    "mitigated": "260238901339aa7cc31a",
}


@pytest.mark.parametrize("name", RECIPES)
def test_key_of_a_recipe(name: str, tmp_path: Path) -> None:
    """A stored model keeps its key whatever its config classes and their fields are called."""
    assert build(RECIPES[name], KeyStore(tmp_path)).name == KEYS[name]
